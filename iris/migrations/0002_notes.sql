-- Notes cut into passages. A course's are shared and indexed once for each version of its text; a student's own are in
-- tables of their own, so that no question of one student ever meets another's words.
CREATE TABLE course_versions (
    course TEXT PRIMARY KEY,
    version TEXT NOT NULL,          -- hash of the texts
    indexed_at INTEGER NOT NULL
) STRICT;

CREATE TABLE course_notes (
    id INTEGER PRIMARY KEY,
    course TEXT NOT NULL REFERENCES course_versions (course) ON DELETE CASCADE,
    topic TEXT NOT NULL,
    title TEXT NOT NULL,
    UNIQUE (course, topic)
) STRICT;

CREATE TABLE course_passages (
    id INTEGER PRIMARY KEY,
    note INTEGER NOT NULL REFERENCES course_notes (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,        -- place in the note, from 0
    shelf TEXT NOT NULL,            -- one word that stands for the course: the index looks only among its passages
    page INTEGER NOT NULL,          -- from 1; 0 where there are no pages
    heading TEXT NOT NULL,
    title TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (note, number)
) STRICT;

CREATE TABLE student_notes (
    id INTEGER PRIMARY KEY,
    student TEXT NOT NULL REFERENCES students (id) ON DELETE CASCADE,
    course TEXT NOT NULL,           -- the course it was added to; empty for none
    title TEXT NOT NULL,
    kind TEXT NOT NULL,
    pages INTEGER NOT NULL,
    empty_pages INTEGER NOT NULL,
    characters INTEGER NOT NULL,
    hash TEXT NOT NULL,
    chosen INTEGER NOT NULL DEFAULT 1,  -- whether answers may lean on it
    added_at INTEGER NOT NULL,
    UNIQUE (student, course, hash)
) STRICT;

CREATE TABLE student_passages (
    id INTEGER PRIMARY KEY,
    note INTEGER NOT NULL REFERENCES student_notes (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    page INTEGER NOT NULL,
    heading TEXT NOT NULL,
    title TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (note, number)
) STRICT;

-- The words of the passages; the texts stay in the tables above, and triggers keep both in step.
CREATE VIRTUAL TABLE course_index USING fts5 (
    shelf, title, heading, body,
    content = 'course_passages', content_rowid = 'id', tokenize = 'porter unicode61 remove_diacritics 2'
);

-- Here the shelf is the note: what is looked for is looked for in the notes that a student has chosen.
CREATE VIEW student_shelves AS
SELECT id, 'n' || note AS shelf, title, heading, body FROM student_passages;

CREATE VIRTUAL TABLE student_index USING fts5 (
    shelf, title, heading, body,
    content = 'student_shelves', content_rowid = 'id', tokenize = 'porter unicode61 remove_diacritics 2'
);

CREATE TRIGGER course_passages_in AFTER INSERT ON course_passages BEGIN
    INSERT INTO course_index (rowid, shelf, title, heading, body)
    VALUES (new.id, new.shelf, new.title, new.heading, new.body);
END;

CREATE TRIGGER course_passages_out AFTER DELETE ON course_passages BEGIN
    INSERT INTO course_index (course_index, rowid, shelf, title, heading, body)
    VALUES ('delete', old.id, old.shelf, old.title, old.heading, old.body);
END;

CREATE TRIGGER student_passages_in AFTER INSERT ON student_passages BEGIN
    INSERT INTO student_index (rowid, shelf, title, heading, body)
    VALUES (new.id, 'n' || new.note, new.title, new.heading, new.body);
END;

CREATE TRIGGER student_passages_out AFTER DELETE ON student_passages BEGIN
    INSERT INTO student_index (student_index, rowid, shelf, title, heading, body)
    VALUES ('delete', old.id, 'n' || old.note, old.title, old.heading, old.body);
END;
