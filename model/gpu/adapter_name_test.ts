import { assertEquals } from "@std/assert";
import { adapterName, driverOf } from "./adapter_name.ts";

const dawn = {
  vendor: "nvidia",
  architecture: "hopper",
  device: "0x2335",
  description: "NVIDIA: 580.159.04 580.159.4.0",
};

Deno.test("adapterName() is the GPU's where Dawn names its driver", async () => {
  assertEquals(await adapterName(dawn, () => "NVIDIA H200"), "NVIDIA H200");
});

Deno.test("adapterName() leaves what is said where the GPU can't be told", async () => {
  const llvmpipe = "llvmpipe (LLVM 15.0.6, 256 bits)";
  assertEquals(await adapterName(dawn, () => llvmpipe), dawn.description);
  assertEquals(await adapterName(dawn, () => ""), dawn.description);
});

Deno.test("adapterName() asks nobody about others, and puts ids together where there is no name", async () => {
  const asked = () => {
    throw new Error("asked");
  };
  const llvmpipe = { ...dawn, description: "llvmpipe (LLVM 15.0.6, 256 bits)" };
  assertEquals(await adapterName(llvmpipe, asked), llvmpipe.description);
  assertEquals(await adapterName({ ...dawn, description: "" }, asked), "nvidia hopper 0x2335");
});

Deno.test("driverOf() finds NVIDIA's driver, and none in a GPU's name", () => {
  assertEquals(driverOf(dawn.description), "NVIDIA 580.159.04");
  assertEquals(driverOf("NVIDIA GeForce RTX 4090"), undefined);
  assertEquals(driverOf("SwiftShader Device (LLVM 10.0.0)"), undefined);
});
