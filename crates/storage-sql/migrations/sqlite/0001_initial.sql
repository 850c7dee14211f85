-- Times are microseconds since 1970 in UTC. Hashes are lower-case hexadecimal text in the state, which is small, and
-- 32 bytes in the events, which are not. Members that are lists or documents are JSON text.
-- A column `number` orders rows by their arrival.

-- State ------------------------------------------------------------------------------------------------------------

-- One row; the number grows with every committed transaction.
CREATE TABLE state_revision (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    revision INTEGER NOT NULL
);
INSERT INTO state_revision (id, revision) VALUES (1, 0);

-- One row, which is written to find out whether the store can be.
CREATE TABLE write_probe (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    writes INTEGER NOT NULL
);
INSERT INTO write_probe (id, writes) VALUES (1, 0);

CREATE TABLE prompts (
    name TEXT NOT NULL PRIMARY KEY,
    created_at INTEGER NOT NULL
);

CREATE TABLE prompt_versions (
    number INTEGER PRIMARY KEY,
    prompt TEXT NOT NULL REFERENCES prompts (name),
    version TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    author TEXT NOT NULL,
    description TEXT NOT NULL,
    content TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (prompt, version),
    UNIQUE (prompt, ordinal)
);

CREATE TABLE prompt_labels (
    prompt TEXT NOT NULL,
    label TEXT NOT NULL,
    version TEXT NOT NULL,
    PRIMARY KEY (prompt, label),
    FOREIGN KEY (prompt, version) REFERENCES prompt_versions (prompt, version)
);

CREATE TABLE evaluation_scores (
    number INTEGER PRIMARY KEY,
    prompt TEXT NOT NULL,
    version TEXT NOT NULL,
    metric TEXT NOT NULL,
    value REAL,
    n INTEGER NOT NULL,
    dataset TEXT,
    recorded_at INTEGER NOT NULL,
    FOREIGN KEY (prompt, version) REFERENCES prompt_versions (prompt, version)
);
CREATE INDEX evaluation_scores_of_version ON evaluation_scores (prompt, version, recorded_at);

CREATE TABLE models (
    number INTEGER PRIMARY KEY,
    model_id TEXT NOT NULL,
    model_version TEXT NOT NULL,
    provider TEXT NOT NULL,
    provider_model TEXT NOT NULL,
    price TEXT,
    created_at INTEGER NOT NULL,
    UNIQUE (model_id, model_version)
);

CREATE TABLE model_aliases (
    model_id TEXT NOT NULL,
    alias TEXT NOT NULL,
    model_version TEXT NOT NULL,
    PRIMARY KEY (model_id, alias)
);

CREATE TABLE retriever_indexes (
    number INTEGER PRIMARY KEY,
    version TEXT NOT NULL UNIQUE,
    retriever TEXT NOT NULL,
    state TEXT NOT NULL,
    created_at INTEGER NOT NULL
);

CREATE TABLE apps (
    name TEXT NOT NULL PRIMARY KEY,
    settings TEXT NOT NULL,
    created_at INTEGER NOT NULL
);

CREATE TABLE manifests (
    id TEXT NOT NULL PRIMARY KEY,
    model_id TEXT NOT NULL,
    model_version TEXT NOT NULL,
    prompt_id TEXT NOT NULL,
    prompt_version TEXT NOT NULL,
    retriever_index_version TEXT,
    guards_version TEXT,
    created_at INTEGER NOT NULL
);
CREATE INDEX manifests_of_prompt ON manifests (prompt_id, prompt_version);

CREATE TABLE deployments (
    number INTEGER PRIMARY KEY,
    app TEXT NOT NULL,
    environment TEXT NOT NULL,
    manifest TEXT NOT NULL,
    previous_manifest TEXT,
    kind TEXT NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    forced_over TEXT
);
CREATE INDEX deployments_of_environment ON deployments (app, environment, number);
CREATE INDEX deployments_of_manifest ON deployments (manifest);

CREATE TABLE experiments (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    app TEXT NOT NULL,
    environment TEXT NOT NULL,
    hypothesis TEXT NOT NULL,
    salt TEXT NOT NULL,
    unit TEXT NOT NULL,
    layer TEXT NOT NULL,
    layer_share INTEGER NOT NULL,
    layer_offset INTEGER NOT NULL,
    arms TEXT NOT NULL,
    exposure INTEGER NOT NULL,
    status TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    stopped_at INTEGER
);

CREATE TABLE api_keys (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    apps TEXT NOT NULL,
    secret_hash TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
);

CREATE TABLE audit_log (
    number INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL,
    previous_hash TEXT NOT NULL,
    hash TEXT NOT NULL
);

-- History is append-only, for us too.
CREATE TRIGGER prompt_versions_stay BEFORE UPDATE ON prompt_versions
BEGIN SELECT RAISE(ABORT, 'prompt versions are append-only'); END;
CREATE TRIGGER prompt_versions_remain BEFORE DELETE ON prompt_versions
BEGIN SELECT RAISE(ABORT, 'prompt versions are append-only'); END;
CREATE TRIGGER manifests_stay BEFORE UPDATE ON manifests
BEGIN SELECT RAISE(ABORT, 'manifests are append-only'); END;
CREATE TRIGGER manifests_remain BEFORE DELETE ON manifests
BEGIN SELECT RAISE(ABORT, 'manifests are append-only'); END;
CREATE TRIGGER deployments_stay BEFORE UPDATE ON deployments
BEGIN SELECT RAISE(ABORT, 'deployments are append-only'); END;
CREATE TRIGGER deployments_remain BEFORE DELETE ON deployments
BEGIN SELECT RAISE(ABORT, 'deployments are append-only'); END;
CREATE TRIGGER audit_log_stays BEFORE UPDATE ON audit_log
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_log_remains BEFORE DELETE ON audit_log
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;

-- Events -----------------------------------------------------------------------------------------------------------

-- What can be listed and filtered. Narrow, so that a scan reads few pages.
CREATE TABLE calls (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    started_at INTEGER NOT NULL,
    app TEXT,
    environment TEXT,
    manifest BLOB,
    prompt TEXT,
    prompt_version BLOB,
    model_id TEXT,
    model_version TEXT,
    experiment TEXT,
    arm TEXT,
    unit TEXT,
    session TEXT,
    tags TEXT,
    idempotency_key TEXT,
    request_hash BLOB,
    redacted INTEGER NOT NULL,
    status TEXT NOT NULL,
    error_kind TEXT,
    finish_reason TEXT,
    streamed INTEGER NOT NULL,
    fallback INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    latency_us INTEGER,
    first_byte_us INTEGER,
    overhead_us INTEGER,
    input_tokens INTEGER,
    output_tokens INTEGER,
    cached_input_tokens INTEGER,
    cost_nano_usd INTEGER
);
CREATE INDEX calls_by_time ON calls (started_at);
CREATE INDEX calls_by_app ON calls (app, started_at);
CREATE INDEX calls_by_unit ON calls (unit, started_at) WHERE unit IS NOT NULL;
CREATE INDEX calls_by_session ON calls (session, started_at) WHERE session IS NOT NULL;
CREATE INDEX calls_by_experiment ON calls (experiment, started_at) WHERE experiment IS NOT NULL;
CREATE INDEX calls_by_idempotency_key ON calls (idempotency_key, app, environment) WHERE idempotency_key IS NOT NULL;

-- The texts of a call, under its number. The output comes first because lists show its beginning.
CREATE TABLE call_contents (
    number INTEGER PRIMARY KEY,
    output TEXT,
    raw_output TEXT,
    error TEXT,
    tool_calls TEXT,
    variables TEXT,
    messages TEXT
);

-- `call_id` refers to no table: feedback may arrive before its call. Senders choose ids without knowing of each other,
-- so an id means something on its call only.
CREATE TABLE feedback (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    call_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT,
    value REAL,
    scale_min REAL,
    scale_max REAL,
    author TEXT,
    created_at INTEGER NOT NULL,
    text TEXT,
    UNIQUE (call_id, id)
);
CREATE INDEX feedback_by_time ON feedback (created_at);
