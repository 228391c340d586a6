-- Conversations of Study Chat. `folded` is a text without case and accents, to be searched in.
CREATE TABLE chats (
    id TEXT PRIMARY KEY,
    student TEXT NOT NULL REFERENCES students (id) ON DELETE CASCADE,
    title TEXT NOT NULL,
    folded TEXT NOT NULL,
    renamed INTEGER NOT NULL DEFAULT 0,  -- 1: the student's own title, which a first question no longer changes
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX chats_of_student ON chats (student, updated_at);

CREATE TABLE chat_messages (
    chat TEXT NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    place INTEGER NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('user', 'assistant')),
    text TEXT NOT NULL,
    folded TEXT NOT NULL,
    PRIMARY KEY (chat, place)
) STRICT;
