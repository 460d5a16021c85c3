/**
 * The catalogue's tables, as migrations: each entry takes the catalogue from version `i` to `i + 1`. Entries are
 * never edited once released; a change is a new entry.
 *
 * | table | a row is |
 * | --- | --- |
 * | `runs(run, state, command, config_path, configuration, started_at, finished_at, host)` | one `reproduce` or `sweep`; `state` is running, done, failed, interrupted or killed |
 * | `run_nodes(run, position, node, stage, key, state, reason, seconds, error)` | one node in one run; `state` is cached, done, failed, blocked or interrupted |
 * | `nodes(key, node, stage, resource, params, labels, digest, run, started_at, finished_at, seconds, provenance)` | one published result; `run` is the run that made it |
 * | `artifacts(key, output, kind, path, sha256, size, value)` | one `json` or `measured` output (`value`), one `file`, or one file (`path`) of a `directory` |
 * | `key_components(key, component, value)` | one thing that a key is a function of: `params.…`, `code.…`, `package.…`, `inputs.…` |
 * | `metric_values(key, step, name, value, measured)` | one number at one step; null when it is not finite |
 * | `objects(sha256, size, mtime, verified_at)` | one file of the object store, as it was when its content was last hashed |
 * | `metrics(run, node, step, name, value, measured)` | view: `metric_values` for each run that made or reused them |
 * | `schema_version(version, applied_at)` | one migration |
 *
 * No table has a primary key: DuckDB's indexes refuse to delete and insert the same key in one transaction, and a
 * republished node does just that. Keys are unique because every writer deletes first.
 *
 * @module
 */

/** SQL of each migration. */
export const MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE runs (
    run VARCHAR NOT NULL, state VARCHAR NOT NULL, command VARCHAR NOT NULL,
    config_path VARCHAR NOT NULL, configuration JSON NOT NULL,
    started_at TIMESTAMP NOT NULL, finished_at TIMESTAMP, host JSON NOT NULL
  );
  CREATE TABLE run_nodes (
    run VARCHAR NOT NULL, position INTEGER NOT NULL, node VARCHAR NOT NULL, stage VARCHAR NOT NULL,
    key VARCHAR, state VARCHAR NOT NULL, reason VARCHAR, seconds DOUBLE, error VARCHAR
  );
  CREATE TABLE nodes (
    key VARCHAR NOT NULL, node VARCHAR NOT NULL, stage VARCHAR NOT NULL, resource VARCHAR NOT NULL,
    params JSON NOT NULL, labels JSON NOT NULL, digest VARCHAR NOT NULL,
    run VARCHAR NOT NULL, started_at TIMESTAMP NOT NULL, finished_at TIMESTAMP NOT NULL,
    seconds DOUBLE NOT NULL, provenance JSON NOT NULL
  );
  CREATE TABLE artifacts (
    key VARCHAR NOT NULL, output VARCHAR NOT NULL, kind VARCHAR NOT NULL, path VARCHAR,
    sha256 VARCHAR, size BIGINT, value JSON
  );
  CREATE TABLE key_components (key VARCHAR NOT NULL, component VARCHAR NOT NULL, value VARCHAR NOT NULL);
  CREATE TABLE metric_values (
    key VARCHAR NOT NULL, step BIGINT NOT NULL, name VARCHAR NOT NULL, value DOUBLE NOT NULL,
    measured BOOLEAN NOT NULL
  );
  CREATE TABLE objects (sha256 VARCHAR NOT NULL, size BIGINT NOT NULL, mtime BIGINT NOT NULL, verified_at TIMESTAMP NOT NULL);
  CREATE VIEW metrics AS
    SELECT r.run, r.node, m.step, m.name, m.value, m.measured
    FROM run_nodes r JOIN metric_values m ON m.key = r.key
    WHERE r.state IN ('cached', 'done');
  `,
  `
  CREATE TABLE tunings (
    adapter VARCHAR NOT NULL, runtime VARCHAR NOT NULL, driver VARCHAR NOT NULL, code VARCHAR NOT NULL,
    question VARCHAR NOT NULL, candidate VARCHAR NOT NULL, seconds DOUBLE NOT NULL,
    measured_at TIMESTAMP NOT NULL
  );
  `,
  "DROP TABLE tunings;",
  `
  ALTER TABLE metric_values ALTER COLUMN value DROP NOT NULL;
  UPDATE metric_values SET value = NULL WHERE NOT isfinite(value);
  `,
];

/** The version that this program writes. */
export const SCHEMA_VERSION: number = MIGRATIONS.length;
