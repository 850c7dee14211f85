-- Sums of an experiment that is made again, until all of its events are in them. What days said before stays, because it is
-- what could be read then; only their last one changes.
CREATE TABLE experiment_sums_again (
    experiment TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    arm INTEGER NOT NULL,
    reading INTEGER NOT NULL,
    segment TEXT NOT NULL,
    day INTEGER NOT NULL,
    sums TEXT NOT NULL,
    PRIMARY KEY (experiment, epoch, arm, reading, segment, day)
) WITHOUT ROWID;

-- The day, counted from 1970, on which what was made again was put in its place: from then on nothing of a unit that was there
-- changes an earlier one.
CREATE TABLE experiment_made_again (
    experiment TEXT NOT NULL PRIMARY KEY,
    day INTEGER NOT NULL
) WITHOUT ROWID;

-- Calls that were logged after later ones of their unit count as if they had come in their order, and so does what is said
-- late of calls before the first exposure. Experiments are therefore made again from their events, unless retention has
-- removed some of these.
-- What was made again when the release before this one ended begins anew; its sums are of a part of the events.
DELETE FROM experiment_sums WHERE experiment IN (SELECT experiment FROM experiment_progress WHERE experiment <> '');
UPDATE experiment_progress SET calls = 0, feedback = 0 WHERE experiment <> '';
INSERT OR REPLACE INTO experiment_progress (experiment, calls, feedback)
SELECT name, 0, 0 FROM experiments
WHERE coalesce(started_at, created_at) >= (SELECT first_hour FROM sums_progress) * 3600000000.0
  AND status <> 'archived'
  -- What a covariate was, retention may have removed.
  AND (coalesce(started_at, created_at) - 28 * 86400000000.0 >= (SELECT first_hour FROM sums_progress) * 3600000000.0
       OR coalesce(plan, '') NOT LIKE '%"covariate":true%')
  AND EXISTS (SELECT 1 FROM experiment_units WHERE experiment_units.experiment = name)
  AND EXISTS (SELECT 1 FROM calls WHERE calls.experiment = name);
DELETE FROM experiment_units WHERE experiment IN (SELECT experiment FROM experiment_progress);
DELETE FROM experiment_histograms WHERE experiment IN (SELECT experiment FROM experiment_progress);
