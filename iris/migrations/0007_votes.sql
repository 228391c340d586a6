-- Two answers to one question, side by side, and which of them the student preferred; NULL until the vote.
CREATE TABLE votes (
    id TEXT PRIMARY KEY,
    student TEXT NOT NULL REFERENCES students (id) ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    question TEXT NOT NULL,
    left_model TEXT NOT NULL,
    right_model TEXT NOT NULL,
    left_answer TEXT NOT NULL,
    right_answer TEXT NOT NULL,
    choice TEXT CHECK (choice IN ('left', 'right', 'both', 'neither')),
    voted_at INTEGER,
    CHECK ((choice IS NULL) = (voted_at IS NULL))
) STRICT;

CREATE INDEX votes_by_student ON votes (student, created_at);
CREATE INDEX votes_counted ON votes (left_model, right_model) WHERE choice IS NOT NULL;
