-- Who there is. Everything personal refers to this table and goes when its row goes.
CREATE TABLE students (
    id TEXT PRIMARY KEY,
    created_at INTEGER NOT NULL
) STRICT;
