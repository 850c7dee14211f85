-- What an experiment plans, what was allocated since when, and how it ended: documents. Experiments of earlier releases
-- have none.
ALTER TABLE experiments ADD COLUMN plan TEXT;
ALTER TABLE experiments ADD COLUMN plan_hash TEXT;
ALTER TABLE experiments ADD COLUMN plan_changes TEXT;
ALTER TABLE experiments ADD COLUMN epochs TEXT;
ALTER TABLE experiments ADD COLUMN decision TEXT;

-- Statistics of experiments by unit, so that a readout reads sums and no events. They follow the events at a short
-- distance and can be made from them again.

-- The numbers of the last call and the last piece of feedback that are taken in: of all experiments under the empty name,
-- and of those that are being made again under their own.
CREATE TABLE experiment_progress (
    experiment TEXT NOT NULL PRIMARY KEY,
    calls INTEGER NOT NULL,
    feedback INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO experiment_progress (experiment, calls, feedback) VALUES ('', 0, 0);

-- The units that were exposed, with the epoch and the arm of their first exposure. `state` is 0 for units that count, 1
-- for those seen in two arms of one epoch, 2 for those that a change of the weights moved. `day` is the last day, counted
-- from 1970, on which something of the unit changed. `readings` is JSON: what of each reading of the plan came together.
CREATE TABLE experiment_units (
    experiment TEXT NOT NULL,
    unit TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    arm INTEGER NOT NULL,
    first_at INTEGER NOT NULL,
    day INTEGER NOT NULL,
    state INTEGER NOT NULL,
    segments TEXT,
    readings TEXT NOT NULL,
    PRIMARY KEY (experiment, unit)
) WITHOUT ROWID;

-- Sums over the units of an arm by the day on which they changed: all days up to one, added up, are what was known at its
-- end. Of reading -1 they count the units that were assigned, of reading -2 those that were dropped. `segment` is empty, or
-- a tag and its value; `sums` is JSON.
CREATE TABLE experiment_sums (
    experiment TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    arm INTEGER NOT NULL,
    reading INTEGER NOT NULL,
    segment TEXT NOT NULL,
    day INTEGER NOT NULL,
    sums TEXT NOT NULL,
    PRIMARY KEY (experiment, epoch, arm, reading, segment, day)
) WITHOUT ROWID;

-- How often each class of value occurs: mean grades of units, or buckets of the values of calls. JSON: pairs.
CREATE TABLE experiment_histograms (
    experiment TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    arm INTEGER NOT NULL,
    reading INTEGER NOT NULL,
    classes TEXT NOT NULL,
    PRIMARY KEY (experiment, epoch, arm, reading)
) WITHOUT ROWID;
