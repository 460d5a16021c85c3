/**
 * An S3 server for tests, on the loopback interface. Prints its port as a line; ends when its standard input does.
 *
 *     deno run … server.js FOLDER BUCKET
 */

import S3rver from "s3rver";

const [directory, name] = Deno.args;
const server = new S3rver({
  address: "127.0.0.1",
  port: 0,
  silent: true,
  directory,
  configureBuckets: [{ name, configs: [] }],
});
const { port } = await server.run();
await Deno.stdout.write(new TextEncoder().encode(`${port}\n`));
for await (const _ of Deno.stdin.readable) {
  // Nothing is said; only the end counts.
}
// Closing the server would wait for connections that others keep open.
Deno.exit(0);
