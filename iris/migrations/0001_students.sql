-- Who there is. Everything personal refers to this table and goes when its row goes.
CREATE TABLE students (
    id TEXT PRIMARY KEY,
    created_at INTEGER NOT NULL
) STRICT;

-- What this server signs and encrypts with. Here, so that a backup that is put back still knows its students.
CREATE TABLE keys (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
