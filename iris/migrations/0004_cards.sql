-- Cards and their reviews. A card's id is made of its text, so that the same card made twice, here or elsewhere, is one.
-- due, reviewed, created, changed, at: milliseconds since 1970; stability: days; state and rating: as in FSRS.
CREATE TABLE cards (
    student TEXT NOT NULL REFERENCES students(id) ON DELETE CASCADE,
    id TEXT NOT NULL,
    course TEXT NOT NULL,
    topic TEXT NOT NULL,
    front TEXT NOT NULL,
    back TEXT NOT NULL,
    source TEXT NOT NULL,
    created INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    state INTEGER NOT NULL,
    step INTEGER,
    stability REAL,
    difficulty REAL,
    due INTEGER NOT NULL,
    reviewed INTEGER,
    PRIMARY KEY (student, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX cards_due ON cards (student, course, due);
-- Holds all that recall and counts need, so that texts are not read for them.
CREATE INDEX cards_memory ON cards (student, course, topic, state, due, reviewed, stability);

-- The latest answers of each topic, for mastery.
CREATE INDEX answers_of_topic ON answers (student, course, topic, at, "right");

CREATE TABLE reviews (
    student TEXT NOT NULL,
    card TEXT NOT NULL,
    at INTEGER NOT NULL,
    rating INTEGER NOT NULL CHECK (rating BETWEEN 1 AND 4),
    duration INTEGER,
    PRIMARY KEY (student, card, at),
    FOREIGN KEY (student, card) REFERENCES cards(student, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
