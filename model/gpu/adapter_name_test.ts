import { assertEquals } from "@std/assert";
import { adapterName, modelOf } from "./adapter_name.ts";

const dawn = {
  vendor: "nvidia",
  architecture: "hopper",
  device: "0x2335",
  description: "NVIDIA: 580.159.04 580.159.4.0",
};

Deno.test("adapterName() is the GPU's where Dawn names its driver", async () => {
  assertEquals(await adapterName(dawn, () => ["NVIDIA H200"]), "NVIDIA H200");
});

Deno.test("adapterName() leaves what is said where the GPU can't be told", async () => {
  assertEquals(await adapterName(dawn, () => ["NVIDIA H200", "NVIDIA T4"]), dawn.description);
  assertEquals(await adapterName(dawn, () => []), dawn.description);
});

Deno.test("adapterName() asks no driver about others, and puts ids together where there is no name", async () => {
  const models = () => {
    throw new Error("asked");
  };
  const llvmpipe = { ...dawn, description: "llvmpipe (LLVM 15.0.6, 256 bits)" };
  assertEquals(await adapterName(llvmpipe, models), llvmpipe.description);
  assertEquals(await adapterName({ ...dawn, description: "" }, models), "nvidia hopper 0x2335");
});

Deno.test("modelOf() finds the model in what the kernel module says", () => {
  const text = "Model: \t\t NVIDIA H200\nIRQ:   \t\t 33\nGPU UUID: \t GPU-585b0cc1\n";
  assertEquals(modelOf(text), "NVIDIA H200");
  assertEquals(modelOf("IRQ: 33\n"), undefined);
});
