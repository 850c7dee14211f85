-- Of each reading the units whose numerator is above zero are counted too, and those whose numerator is below their
-- denominator: small counts are compared by them. How long outcomes took is kept by arm. What is known of experiments is
-- therefore made again from their events, unless retention has removed some of these.
INSERT OR REPLACE INTO experiment_progress (experiment, calls, feedback)
SELECT name, 0, 0 FROM experiments
WHERE coalesce(started_at, created_at) >= (SELECT first_hour FROM sums_progress) * 3600000000.0
  AND EXISTS (SELECT 1 FROM experiment_units WHERE experiment_units.experiment = name)
  AND EXISTS (SELECT 1 FROM calls WHERE calls.experiment = name);
DELETE FROM experiment_units WHERE experiment IN (SELECT experiment FROM experiment_progress);
DELETE FROM experiment_sums WHERE experiment IN (SELECT experiment FROM experiment_progress);
DELETE FROM experiment_histograms WHERE experiment IN (SELECT experiment FROM experiment_progress);
