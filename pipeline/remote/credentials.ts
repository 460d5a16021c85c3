/**
 * Credentials, region and endpoint of S3, from where Amazon's own tools take them: environment variables, then a profile
 * of `~/.aws/credentials` and `~/.aws/config`.
 *
 * @module
 */

import { join } from "@std/path";
import { EXIT } from "../errors.ts";
import { RemoteError } from "./error.ts";
import { readTextOrUndefined } from "../store/files.ts";

/** Whom to be and whom to ask. */
export interface AwsSettings {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string | undefined;
  /** `us-east-1` unless given. */
  readonly region: string;
  /** Without a slash at its end; Amazon's own for the region unless given. */
  readonly endpoint: string;
}

/** Profiles of an INI file: section, key, value. */
type Profiles = ReadonlyMap<string, ReadonlyMap<string, string>>;

/**
 * Reads the settings.
 *
 * @param name The remote, for messages.
 * @param env Gives environment variables.
 * @throws RemoteError when there are no credentials, or the endpoint is no address.
 */
export async function readAwsSettings(
  name: string,
  env: (variable: string) => string | undefined = (variable) => Deno.env.get(variable),
): Promise<AwsSettings> {
  const given = (variable: string) => env(variable)?.trim() || undefined;
  const profile = given("AWS_PROFILE") ?? "default";
  const home = given("HOME") ?? given("USERPROFILE");
  const file = async (variable: string, fallback: string): Promise<Profiles> => {
    const path = given(variable) ?? (home === undefined ? undefined : join(home, ".aws", fallback));
    return parseProfiles(path === undefined ? "" : await readTextOrUndefined(path) ?? "");
  };
  const stored = (await file("AWS_SHARED_CREDENTIALS_FILE", "credentials")).get(profile);
  const config = await file("AWS_CONFIG_FILE", "config");
  const settings = config.get(`profile ${profile}`) ?? config.get(profile);

  const region = given("AWS_REGION") ?? given("AWS_DEFAULT_REGION") ?? settings?.get("region") ??
    stored?.get("region") ?? "us-east-1";
  if (!/^[a-z0-9-]+$/.test(region)) {
    throw refusal(name, `the region is ${JSON.stringify(region)}; expected one like us-east-1`);
  }
  const endpoint = given("AWS_ENDPOINT_URL_S3") ?? given("AWS_ENDPOINT_URL") ??
    settings?.get("endpoint_url") ?? `https://s3.${region}.amazonaws.com`;
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.username || url.search) {
    throw refusal(name, "AWS_ENDPOINT_URL is no address of the form https://host:port");
  }
  const found = pair(given("AWS_ACCESS_KEY_ID"), given("AWS_SECRET_ACCESS_KEY"), {
    sessionToken: given("AWS_SESSION_TOKEN"),
  }) ?? fromProfile(stored) ?? fromProfile(settings);
  if (found === undefined) {
    const other = ["role_arn", "sso_session", "sso_start_url", "credential_process"]
      .find((key) => settings?.has(key) || stored?.has(key));
    throw refusal(
      name,
      `there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile's ` +
        `aws_access_key_id and aws_secret_access_key in ~/.aws/credentials` +
        (other === undefined
          ? ""
          : ` (profile ${JSON.stringify(profile)} has ${other}, which is not supported: ` +
            "`aws configure export-credentials --format env` prints variables)"),
    );
  }
  return { ...found, region, endpoint: url.href.replace(/\/+$/, "") };
}

type Found = Pick<AwsSettings, "accessKeyId" | "secretAccessKey" | "sessionToken">;

function pair(
  accessKeyId: string | undefined,
  secretAccessKey: string | undefined,
  more: Pick<AwsSettings, "sessionToken">,
): Found | undefined {
  if (accessKeyId === undefined || secretAccessKey === undefined) return undefined;
  return { accessKeyId, secretAccessKey, ...more };
}

function fromProfile(profile: ReadonlyMap<string, string> | undefined): Found | undefined {
  return pair(profile?.get("aws_access_key_id"), profile?.get("aws_secret_access_key"), {
    sessionToken: profile?.get("aws_session_token"),
  });
}

/** Reads sections and their keys; comments and nested values are passed over. */
export function parseProfiles(text: string): Profiles {
  const profiles = new Map<string, Map<string, string>>();
  let current: Map<string, string> | undefined;
  for (const line of text.split(/\r?\n/)) {
    if (/^\s*[#;]/.test(line)) continue;
    const section = /^\[\s*(.+?)\s*\]/.exec(line)?.[1]?.replace(/\s+/g, " ");
    if (section !== undefined) {
      current = profiles.get(section) ?? new Map();
      profiles.set(section, current);
      continue;
    }
    const [, key, value] = /^([\w-]+)\s*=\s*(.*?)\s*$/.exec(line) ?? [];
    if (key !== undefined && value) current?.set(key.toLowerCase(), value);
  }
  return profiles;
}

function refusal(name: string, problem: string): RemoteError {
  return new RemoteError(`${name}: ${problem}.`, { fault: "denied", exitCode: EXIT.usage });
}
