-- The first day, counted from 1970, that is not over for an experiment: what is taken in of an earlier one counts there, so that
-- what could be read of a day that is over stays.
ALTER TABLE experiment_made_again RENAME TO experiment_open_days;

-- Experiments that were changed so that their units count otherwise, and the day of that: by other weights units have another arm.
-- The row is written with the change, and is there until they do; `after` is the name of the last unit that was looked at,
-- `again` whether more follows from it than who is left out, and `changes` counts those that came before this was done.
CREATE TABLE experiment_recounts (
    experiment TEXT NOT NULL PRIMARY KEY,
    day INTEGER NOT NULL,
    after TEXT NOT NULL DEFAULT '',
    again INTEGER NOT NULL DEFAULT 0,
    changes INTEGER NOT NULL DEFAULT 1
) WITHOUT ROWID;

-- Where retention had removed calls, or the release before this one ended at a bad moment, units with another arm are still there.
INSERT INTO experiment_recounts (experiment, day)
SELECT name, strftime('%s', 'now') / 86400 FROM experiments
WHERE status IN ('running', 'stopped') AND json_array_length(epochs) > 1
  AND NOT EXISTS (SELECT 1 FROM experiment_progress WHERE experiment = name);
