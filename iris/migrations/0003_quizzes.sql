-- Quizzes as they were given, and every answer that counts for what a student knows, from whichever tool.
CREATE TABLE quizzes (
    id INTEGER PRIMARY KEY,
    student TEXT NOT NULL REFERENCES students(id) ON DELETE CASCADE,
    course TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;
CREATE INDEX quizzes_of_student ON quizzes (student, course, at);

CREATE TABLE quiz_items (
    quiz INTEGER NOT NULL REFERENCES quizzes(id) ON DELETE CASCADE,
    place INTEGER NOT NULL,
    item TEXT NOT NULL,
    topic TEXT NOT NULL,
    kind TEXT NOT NULL,
    question TEXT NOT NULL,
    PRIMARY KEY (quiz, place)
) STRICT;

CREATE TABLE answers (
    id INTEGER PRIMARY KEY,
    student TEXT NOT NULL REFERENCES students(id) ON DELETE CASCADE,
    at INTEGER NOT NULL,
    course TEXT NOT NULL,
    item TEXT NOT NULL,
    topic TEXT NOT NULL,
    kind TEXT NOT NULL,
    "right" REAL NOT NULL CHECK ("right" BETWEEN 0 AND 1),
    source TEXT NOT NULL CHECK (source IN ('quiz', 'drill', 'review'))
) STRICT;
CREATE INDEX answers_of_student ON answers (student, course, at);
