-- What each week (from Monday, in UTC) said of each prompt version that an app served, by unit, so that intervals know which
-- calls came from the same user. Weeks are counted from the one of 1 January 1970. They follow the events at a short
-- distance.

-- One row: the numbers of the last call and the last piece of feedback that are taken in. Of weeks before `first_week` the sums
-- stay as they are and the units go, so that those of a few weeks are kept and no more.
CREATE TABLE week_progress (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    calls INTEGER NOT NULL,
    feedback INTEGER NOT NULL,
    first_week INTEGER NOT NULL
);
INSERT INTO week_progress (id, calls, feedback, first_week) VALUES (1, 0, 0, -1000000);

-- What came together of each unit. `readings` is JSON: by source of values, the sum and how many.
CREATE TABLE week_units (
    week INTEGER NOT NULL,
    app TEXT NOT NULL,
    environment TEXT NOT NULL,
    prompt_version BLOB NOT NULL,
    unit TEXT NOT NULL,
    readings TEXT NOT NULL,
    PRIMARY KEY (week, app, environment, prompt_version, unit)
) WITHOUT ROWID;

-- Sums over units by source of values: of the sums, of how many values they are of, and of the units' calls. Calls without a
-- unit are units of their own. `classes` says how often each bucket of a signal's values occurs. Both are JSON.
CREATE TABLE week_sums (
    week INTEGER NOT NULL,
    app TEXT NOT NULL,
    environment TEXT NOT NULL,
    prompt_version BLOB NOT NULL,
    source TEXT NOT NULL,
    sums TEXT NOT NULL,
    classes TEXT NOT NULL,
    PRIMARY KEY (app, week, environment, prompt_version, source)
) WITHOUT ROWID;
