-- Sums over events, hour by hour, so that a chart or a summary reads hours and not events. They follow the events at a
-- short distance, and can be made from them again: with both numbers back at 0 and the other tables empty, they are.

-- One row: the numbers of the last call and the last piece of feedback that the sums contain, and the hour before which
-- they say nothing, because retention has removed events there.
CREATE TABLE sums_progress (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    calls INTEGER NOT NULL,
    feedback INTEGER NOT NULL,
    first_hour INTEGER NOT NULL
);
INSERT INTO sums_progress (id, calls, feedback, first_hour) VALUES (1, 0, 0, -9223372036854775808);

-- The calls of one hour, counted from 1970, that have all of this in common. Sums that may not fit a number are those of
-- its upper and its lower half. `latencies` is JSON: pairs of a latency of two digits and how many calls took so long.
CREATE TABLE call_sums (
    number INTEGER PRIMARY KEY,
    hour INTEGER NOT NULL,
    app TEXT,
    environment TEXT,
    manifest BLOB,
    prompt_version BLOB,
    model_id TEXT,
    model_version TEXT,
    experiment TEXT,
    arm TEXT,
    fallback INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    provider_errors INTEGER NOT NULL,
    gateway_errors INTEGER NOT NULL,
    invalid_outputs INTEGER NOT NULL,
    calls_with_latency INTEGER NOT NULL,
    latency_upper INTEGER NOT NULL,
    latency_lower INTEGER NOT NULL,
    calls_with_cost INTEGER NOT NULL,
    cost_upper INTEGER NOT NULL,
    cost_lower INTEGER NOT NULL,
    latencies TEXT NOT NULL
);
CREATE INDEX call_sums_by_hour ON call_sums (hour);

-- What was said of them, by series and scale; of each call and series the latest. Each sum is in two numbers, of which the
-- second is what the first could not hold; values that are `beyond` what can be summed are counted only.
CREATE TABLE feedback_sums (
    number INTEGER PRIMARY KEY,
    call_sums INTEGER NOT NULL REFERENCES call_sums (number) ON DELETE CASCADE,
    series TEXT NOT NULL,
    scale_min REAL,
    scale_max REAL,
    n INTEGER NOT NULL,
    ones INTEGER NOT NULL,
    zeros INTEGER NOT NULL,
    beyond INTEGER NOT NULL,
    sum_high REAL NOT NULL,
    sum_low REAL NOT NULL,
    squares_high REAL NOT NULL,
    squares_low REAL NOT NULL
);
CREATE INDEX feedback_sums_of_calls ON feedback_sums (call_sums, series);

-- What went wrong is looked for among very many that did not.
CREATE INDEX calls_not_ok ON calls (started_at) WHERE status <> 'ok';
