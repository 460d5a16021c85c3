import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { parseProfiles, readAwsSettings } from "./credentials.ts";
import { RemoteError } from "./error.ts";

async function read(
  env: Readonly<Record<string, string>>,
  files: Readonly<Record<string, string>> = {},
) {
  const home = await Deno.makeTempDir({ prefix: "home_" });
  try {
    await Deno.mkdir(join(home, ".aws"));
    for (const [name, text] of Object.entries(files)) {
      await Deno.writeTextFile(join(home, ".aws", name), text);
    }
    const all: Record<string, string> = { HOME: home, ...env };
    return await readAwsSettings("s3://models", (variable) => all[variable]);
  } finally {
    await Deno.remove(home, { recursive: true });
  }
}

const CREDENTIALS = `
[default]
aws_access_key_id = DEFAULT
aws_secret_access_key=one ; is part of the value
# aws_session_token = no
[my.team]
aws_access_key_id = TEAM
aws_secret_access_key = two=2
aws_session_token = token
`;
const CONFIG = `
[default]
region = eu-west-1
[profile my.team]
region = eu-north-1
endpoint_url = http://127.0.0.1:9000/
s3 =
  max_concurrent_requests = 5
`;

Deno.test("environment variables come first", async () => {
  const env = {
    AWS_ACCESS_KEY_ID: "A",
    AWS_SECRET_ACCESS_KEY: "B",
    AWS_SESSION_TOKEN: "C",
    AWS_REGION: "us-west-2",
    AWS_PROFILE: "my.team",
    AWS_ENDPOINT_URL: "https://minio:9000",
  };
  assertEquals(await read(env, { credentials: CREDENTIALS, config: CONFIG }), {
    accessKeyId: "A",
    secretAccessKey: "B",
    sessionToken: "C",
    region: "us-west-2",
    endpoint: "https://minio:9000",
  });
});

Deno.test("a profile gives credentials, region and endpoint", async () => {
  const files = { credentials: CREDENTIALS, config: CONFIG };
  assertEquals(await read({}, files), {
    accessKeyId: "DEFAULT",
    secretAccessKey: "one ; is part of the value",
    sessionToken: undefined,
    region: "eu-west-1",
    endpoint: "https://s3.eu-west-1.amazonaws.com",
  });
  assertEquals(await read({ AWS_PROFILE: "my.team" }, files), {
    accessKeyId: "TEAM",
    secretAccessKey: "two=2",
    sessionToken: "token",
    region: "eu-north-1",
    endpoint: "http://127.0.0.1:9000",
  });
});

Deno.test("nested values of a configuration are passed over", () => {
  const profile = parseProfiles(CONFIG).get("profile my.team");
  assertEquals([...profile!.keys()], ["region", "endpoint_url"]);
});

Deno.test("without credentials: one line that says where they would come from", async () => {
  const error = await assertRejects(() => read({}), RemoteError);
  assertEquals(error.exitCode, 2);
  assertStringIncludes(
    error.message,
    "s3://models: there are no credentials; set AWS_ACCESS_KEY_ID",
  );
  const role = { config: "[default]\nsso_session = corp\n" };
  const other = await assertRejects(() => read({}, role), RemoteError);
  assertStringIncludes(other.message, 'profile "default" has sso_session, which is not supported');
});

Deno.test("an endpoint or a region that is none is refused, and no secret repeated", async () => {
  const keys = { AWS_ACCESS_KEY_ID: "A", AWS_SECRET_ACCESS_KEY: "hunter2" };
  for (
    const env of [
      { AWS_ENDPOINT_URL: "minio:9000" },
      { AWS_ENDPOINT_URL: "https://me:hunter2@minio" },
      { AWS_REGION: "eu/west" },
    ]
  ) {
    const error = await assertRejects(() => read({ ...keys, ...env }), RemoteError);
    assert(!error.message.includes("hunter2"), error.message);
  }
});
