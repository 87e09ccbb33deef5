CREATE TABLE agents(
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    -- Hooks have shown that they report what it sees.
    confirms INTEGER NOT NULL DEFAULT 0
);

-- A number is never given again. Times are milliseconds since 1970.
CREATE TABLE sessions(
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    agent INTEGER NOT NULL,
    name TEXT NOT NULL,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    -- No message may have reached it.
    seq INTEGER NOT NULL DEFAULT 0,
    removed_before INTEGER NOT NULL DEFAULT 0,
    -- The messages with a client's id that were removed.
    keys_removed INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX sessions_by_name ON sessions(agent, name);

-- Has a row while a server has the database open, and after one that has not closed it.
CREATE TABLE open(is_open INTEGER NOT NULL);

-- The id is the session's number << 32 | seq, so that a session's messages lie beside each other. What changes keeps its
-- size, so that a long text is not written again with it; and the text is last, so that it need not be read for the rest.
CREATE TABLE messages(
    id INTEGER PRIMARY KEY,
    message_id BLOB NOT NULL,
    -- When it came here.
    said INTEGER NOT NULL,
    -- An integer: milliseconds from `said` on. A text: as it is.
    ts NOT NULL,
    state INTEGER,
    via INTEGER,
    grant_id INTEGER,
    -- NULL: Claude has said it.
    user TEXT,
    -- The client's id, and what tells the message from another with the same.
    key TEXT,
    fingerprint INTEGER,
    content TEXT NOT NULL
);
CREATE UNIQUE INDEX messages_by_key ON messages(id >> 32, key) WHERE key IS NOT NULL;

-- The messages that an agent may not have seen. `position` tells in which order they came. Most were given to it, and many
-- may never be answered; those that are in its inbox are few.
CREATE TABLE waiting(
    message INTEGER PRIMARY KEY,
    position INTEGER NOT NULL,
    is_queued INTEGER NOT NULL
);
CREATE INDEX waiting_in_inbox ON waiting(position) WHERE is_queued = 1;

-- The replies that nobody has received.
CREATE TABLE unread(message INTEGER PRIMARY KEY);

-- Some messages of a session, from the seq `first` up to the next span: what is removed together.
CREATE TABLE spans(
    session INTEGER NOT NULL,
    first INTEGER NOT NULL,
    -- When the first was said.
    start INTEGER NOT NULL,
    -- Its place among those with the same start, from one commit.
    place INTEGER NOT NULL,
    -- Only messages that no limit but their age removes are left.
    is_spared INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY(session, first)
) WITHOUT ROWID;
CREATE INDEX spans_by_age ON spans(is_spared, start, place);

CREATE TABLE verdicts(
    id INTEGER PRIMARY KEY,
    agent INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    tool_name TEXT NOT NULL,
    description TEXT NOT NULL,
    allowed INTEGER NOT NULL,
    "by" TEXT NOT NULL,
    ts TEXT NOT NULL,
    decided INTEGER NOT NULL
);
CREATE INDEX verdicts_by_agent ON verdicts(agent);

-- The words of the messages, but for those of a session after a seq in `unindexed`: they are indexed many at a time.
CREATE VIRTUAL TABLE words USING fts5(
    content,
    content = 'messages',
    content_rowid = 'id',
    columnsize = 0,
    tokenize = 'unicode61 remove_diacritics 2'
);
INSERT INTO words(words, rank) VALUES('secure-delete', 1);
CREATE TABLE unindexed(session INTEGER PRIMARY KEY, after INTEGER NOT NULL);
