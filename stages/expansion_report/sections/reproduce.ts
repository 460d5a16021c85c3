/**
 * "Reproduce": what another run needs to give the same numbers.
 *
 * @module
 */

import { md, type Section } from "../../report/document.ts";
import { provenanceText, whole } from "../../report/facts.ts";
import type { ExpansionContext } from "./context.ts";

/** The section. */
export function reproduceSection({ data }: ExpansionContext): Section {
  const nodes = [...data.measured, ...data.expanded];
  const config = provenanceText(nodes, "config");
  const commit = provenanceText(nodes, "commit");
  const modified = nodes.some(({ provenance }) => provenance.modified === true);
  const files = (data.model?.result.files ?? []).map(({ path, bytes, sha256 }) => [
    path,
    whole(bytes),
    sha256,
  ]);
  const command = config === undefined ? md`The run did not record its configuration.` : md`${{
    type: "inlineCode",
    value: `deno task reproduce --config ${config}`,
  }} runs the experiment again${
    commit ? `, at commit ${commit.slice(0, 12)}${modified ? " with changes" : ""}` : ""
  }. The same configuration, files and adapter give the same bits; another adapter rounds otherwise, and k-means may then find another partition.`;
  return {
    id: "reproduce",
    title: "Reproduce",
    blocks: [
      command,
      ...files.length > 0
        ? [{
          kind: "table" as const,
          title: "Files of the model",
          header: ["file", "bytes", "SHA-256"],
          rows: files,
          numbersFrom: 1,
        }]
        : [],
    ],
  };
}
