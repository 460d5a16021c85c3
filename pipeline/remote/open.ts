/**
 * Opens the place of a remote store; only its own kind's modules are loaded.
 *
 * @module
 */

import type { RemoteAddress } from "./address.ts";
import type { Backend } from "./backend.ts";
import type { Patience } from "./exchange.ts";

/** Opens the place that an address names; nothing is asked yet. */
export async function openBackend(address: RemoteAddress, patience: Patience): Promise<Backend> {
  switch (address.kind) {
    case "s3": {
      const [{ S3Backend }, { readAwsSettings }] = await Promise.all([
        import("./s3.ts"),
        import("./credentials.ts"),
      ]);
      return new S3Backend(address, { patience, settings: () => readAwsSettings(address.name) });
    }
    case "http": {
      const { WebBackend } = await import("./web.ts");
      return new WebBackend(address, {
        patience,
        token: Deno.env.get("ETHOS_REMOTE_TOKEN") || undefined,
      });
    }
    case "file": {
      const { FolderBackend } = await import("./folder.ts");
      return new FolderBackend(address);
    }
  }
}
