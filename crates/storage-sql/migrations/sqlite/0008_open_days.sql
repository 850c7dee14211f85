-- The first day, counted from 1970, that is not over for an experiment: what is taken in of an earlier one counts there, so that
-- what could be read of a day that is over stays.
ALTER TABLE experiment_made_again RENAME TO experiment_open_days;

-- Experiments that were changed so that their units count otherwise, and the day of that: by other weights units have another arm.
-- The row is written with the change, and is there until they do; `after` is the name of the last unit that was looked at,
-- `again` whether more follows from it than who is left out.
CREATE TABLE experiment_recounts (
    experiment TEXT NOT NULL PRIMARY KEY,
    day INTEGER NOT NULL,
    after TEXT NOT NULL DEFAULT '',
    again INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
