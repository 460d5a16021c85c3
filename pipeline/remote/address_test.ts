import { assert, assertEquals, assertThrows } from "@std/assert";
import { UserError } from "../errors.ts";
import { parseRemote } from "./address.ts";

Deno.test("addresses of each kind, without slashes at their ends", () => {
  assertEquals(parseRemote("s3://models/team/a/", "--remote"), {
    kind: "s3",
    name: "s3://models/team/a",
    bucket: "models",
    prefix: "team/a",
  });
  assertEquals(parseRemote("s3://models", "--remote"), {
    kind: "s3",
    name: "s3://models",
    bucket: "models",
    prefix: "",
  });
  assertEquals(parseRemote("https://host:8443/a/b//", "--remote"), {
    kind: "http",
    name: "https://host:8443/a/b",
    url: "https://host:8443/a/b",
  });
  assertEquals(parseRemote("file:///shared/my%20disk/", "--remote"), {
    kind: "file",
    name: "file:///shared/my disk",
    folder: "/shared/my disk",
  });
});

Deno.test("other addresses are refused in one line that names the option", () => {
  const bad = [
    "",
    "models/team",
    "ftp://host/a",
    "s3://",
    "s3://No",
    "s3://a..b",
    "s3://models/../other",
    "s3://models/a//b",
    "s3://models/a b",
    "s3://models/./a",
    "file://shared/disk",
  ];
  for (const text of bad) {
    const { message } = assertThrows(() => parseRemote(text, "ETHOS_REMOTE"), UserError);
    assert(message.startsWith("ETHOS_REMOTE "), message);
    assert(!message.includes("\n"), message);
  }
});

Deno.test("an address with a credential is refused, and the credential not repeated", () => {
  const bad = [
    "https://me:hunter2@host/a",
    "https://host/a?token=hunter2",
    "s3://hunter2@models/a",
    "s3://models/a?secret=hunter2",
    "file:///a#hunter2",
    "https://me:hunter2@[bad/a?x=hunter2",
  ];
  for (const text of bad) {
    const { message } = assertThrows(() => parseRemote(text, "--remote"), UserError);
    assert(!message.includes("hunter2"), message);
  }
});
