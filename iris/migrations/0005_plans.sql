-- Study plans, one for each course, and drills. Times in milliseconds since 1970; days as YYYY-MM-DD.
CREATE TABLE plans (
    student TEXT NOT NULL REFERENCES students(id) ON DELETE CASCADE,
    course TEXT NOT NULL,
    id TEXT NOT NULL,
    revision INTEGER NOT NULL,
    created INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    asked TEXT NOT NULL,    -- what the student asked for, as JSON
    facts TEXT NOT NULL,    -- what was found out while planning, as JSON: left out, predicted recall
    tips TEXT NOT NULL,
    PRIMARY KEY (student, course)
) STRICT, WITHOUT ROWID;

CREATE TABLE plan_sessions (
    student TEXT NOT NULL,
    course TEXT NOT NULL,
    id TEXT NOT NULL,
    place INTEGER NOT NULL,
    day TEXT NOT NULL,
    kind TEXT NOT NULL,
    topic TEXT NOT NULL,
    minutes INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('planned', 'done', 'gone')),   -- gone: not planned any more
    PRIMARY KEY (student, course, id),
    FOREIGN KEY (student, course) REFERENCES plans(student, course) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE drills (
    student TEXT NOT NULL REFERENCES students(id) ON DELETE CASCADE,
    id TEXT NOT NULL,
    course TEXT NOT NULL,
    begun INTEGER NOT NULL,
    ends INTEGER NOT NULL,
    handed_in INTEGER,
    changed INTEGER NOT NULL,
    items TEXT NOT NULL,    -- as JSON, with the right answers
    given TEXT NOT NULL,    -- the student's answers so far, as JSON
    report TEXT NOT NULL,   -- as JSON, empty until it is handed in
    PRIMARY KEY (student, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX drills_open ON drills (student, course, handed_in, begun);
