-- The first day, counted from 1970, that is not over for an experiment: what is taken in of an earlier one counts there, so that
-- what could be read of a day that is over stays.
ALTER TABLE experiment_made_again RENAME TO experiment_open_days;

-- Experiments whose weights were changed, and the day of that. The row is written with the change, and is there until the units
-- that have another arm since then are in no sum; `after` is the name of the last unit that was looked at.
CREATE TABLE experiment_moves (
    experiment TEXT NOT NULL PRIMARY KEY,
    day INTEGER NOT NULL,
    after TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
