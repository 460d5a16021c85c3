/**
 * An open WebGPU device, whoever's adapter it is of: `open.ts` finds those of Deno, and a page has the browser's.
 *
 * Every useful feature and the adapter's full limits are requested; `restrict` takes some of it away, so that tests run
 * the paths that lesser devices take. Errors that WebGPU reports on the side (uncaptured errors, a lost device) become
 * exceptions through {@linkcode Gpu.check} and {@linkcode Gpu.guard}.
 *
 * @module
 */

import {
  type Capabilities,
  type DeviceRuntime,
  restrictCapabilities,
  type SubgroupMatrixConfig,
  WEBGPU_DEFAULTS,
} from "./capabilities.ts";
import { adapterName, driverOf } from "./adapter_name.ts";

export type { DeviceRuntime, Runtime } from "./capabilities.ts";

/** Who the adapter says it is. */
export interface AdapterFacts {
  /** Name of the vendor, or its PCI id in hexadecimal where that is all there is. */
  readonly vendor: string;
  /** Family of the GPU; often empty. */
  readonly architecture: string;
  /** The vendor's id of the device. */
  readonly device: string;
  /** Human-readable name: `llvmpipe (LLVM 15.0.6, 256 bits)`. */
  readonly description: string;
  /** The driver and its version, `NVIDIA 580.159.04`, where the runtime tells. */
  readonly driver?: string;
  /** Whether a processor plays GPU. */
  readonly software: boolean;
  /** Every feature that the adapter lists, sorted. */
  readonly features: readonly string[];
}

/** An open device. */
export interface Gpu {
  /** The WebGPU device. */
  readonly device: GPUDevice;
  /** Which implementation it belongs to. */
  readonly runtime: DeviceRuntime;
  /** Who the adapter says it is. */
  readonly adapter: AdapterFacts;
  /** The capabilities that kernels may use. */
  readonly capabilities: Capabilities;
  /**
   * Throws the first error that the device reported on the side, if any. Cheap: call it before every submission.
   *
   * @throws {GpuError}
   */
  check(): void;
  /**
   * Awaits a promise of the device (a mapping, `onSubmittedWorkDone`), and rejects when the device reports an error or is lost
   * meanwhile: a mapping on a lost device would otherwise be waited for in vain.
   *
   * @throws {GpuError}
   */
  guard<T>(promise: Promise<T>): Promise<T>;
  /**
   * Runs `create` in an error scope, so that what fails is named. For set-up, not for the training loop.
   *
   * @throws {GpuError} Naming `label` and what WebGPU said.
   */
  attempt<T>(label: string, create: () => T | Promise<T>): Promise<T>;
  /** Destroys the device; what is pending in {@linkcode Gpu.guard} rejects. */
  close(): void;
}

/** The kinds of a device's errors. */
type GpuErrorKind = "validation" | "out-of-memory" | "internal" | "lost" | "closed";

/** An error that a device reported. */
export class GpuError extends Error {
  /** The kind of the error. */
  readonly kind: GpuErrorKind;

  /** Makes an error of a kind. */
  constructor(kind: GpuErrorKind, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "GpuError";
    this.kind = kind;
  }
}

interface OpenAdapterOptions {
  /** Whose adapter it is. */
  readonly runtime: DeviceRuntime;
  /** Lowers what kernels may use, and what the device validates: see {@linkcode restrictCapabilities}. */
  readonly restrict?: Partial<Capabilities>;
}

/** Opens the device of an adapter, with the features and limits that the adapter has. Close it when done. */
export async function openAdapter(
  adapter: GPUAdapter,
  { runtime, restrict = {} }: OpenAdapterOptions,
): Promise<Gpu> {
  const facts = await adapterFacts(adapter);
  const offered = offeredCapabilities(adapter, facts, runtime);
  const restricted = restrictCapabilities(offered, restrict);
  const device = await requestDevice(adapter, restricted, facts);
  const capabilities = restrictCapabilities(restricted, {
    subgroups: device.features.has("subgroups"),
  });
  return new OpenDevice(device, runtime, facts, capabilities);
}

class OpenDevice implements Gpu {
  readonly device: GPUDevice;
  readonly runtime: DeviceRuntime;
  readonly adapter: AdapterFacts;
  readonly capabilities: Capabilities;
  #error: GpuError | undefined;
  /** Rejecters of what is being guarded. A set, as `Promise.race` against one long-lived promise would grow without end. */
  readonly #pending = new Set<(error: GpuError) => void>();

  constructor(
    device: GPUDevice,
    runtime: DeviceRuntime,
    adapter: AdapterFacts,
    capabilities: Capabilities,
  ) {
    this.device = device;
    this.runtime = runtime;
    this.adapter = adapter;
    this.capabilities = capabilities;
    device.addEventListener("uncapturederror", (event) => {
      event.preventDefault();
      const { error } = event as GPUUncapturedErrorEvent;
      this.#fail(toGpuError(error, `${adapter.description} reported an error`));
    });
    device.lost.then((info) =>
      this.#fail(
        new GpuError(
          "lost",
          `The GPU ${adapter.description} was lost (${info.reason}): ${info.message}`,
        ),
      )
    );
  }

  check(): void {
    if (this.#error !== undefined) throw this.#error;
  }

  guard<T>(promise: Promise<T>): Promise<T> {
    if (this.#error !== undefined) return Promise.reject(this.#error);
    return new Promise<T>((resolve, reject) => {
      this.#pending.add(reject);
      promise.then(resolve, (cause) => {
        // The device's own complaint, if there is one, explains more than `mapping was aborted`.
        reject(this.#error ?? cause);
      }).finally(() => this.#pending.delete(reject));
    });
  }

  async attempt<T>(label: string, create: () => T | Promise<T>): Promise<T> {
    this.check();
    const { device } = this;
    device.pushErrorScope("internal");
    device.pushErrorScope("out-of-memory");
    device.pushErrorScope("validation");
    let made: T | Promise<T> | undefined;
    let thrown: unknown;
    try {
      made = create();
    } catch (error) {
      thrown = error;
    }
    // Popped before anything is awaited: scopes are a stack that others may use meanwhile.
    const scopes = [device.popErrorScope(), device.popErrorScope(), device.popErrorScope()];
    const result = await this.guard(Promise.allSettled([made, ...scopes]));
    for (const scope of result.slice(1)) {
      if (scope.status === "fulfilled" && scope.value) {
        throw toGpuError(scope.value as GPUError, label);
      }
    }
    const [value] = result;
    const cause = thrown ?? (value?.status === "rejected" ? value.reason : undefined);
    if (cause !== undefined) {
      const message = cause instanceof Error ? cause.message : String(cause);
      throw new GpuError("validation", `${label}: ${message.trim()}`, { cause });
    }
    return await made as T;
  }

  close(): void {
    this.#fail(new GpuError("closed", `The GPU ${this.adapter.description} was closed.`));
    this.device.destroy();
  }

  #fail(error: GpuError): void {
    this.#error ??= error;
    for (const reject of this.#pending) reject(this.#error);
    this.#pending.clear();
  }
}

function toGpuError(error: GPUError, label: string): GpuError {
  const kinds: Record<string, GpuErrorKind> = {
    GPUValidationError: "validation",
    GPUOutOfMemoryError: "out-of-memory",
    GPUInternalError: "internal",
  };
  // Dawn's classes are not Deno's, so the name decides and not `instanceof`.
  const kind = kinds[error.constructor.name] ?? "internal";
  return new GpuError(kind, `${label} (${kind}): ${error.message.trim()}`);
}

/** The facts that Dawn and recent browsers give of an adapter beyond Deno's types. */
interface AdapterInfo extends GPUAdapterInfo {
  readonly subgroupMatrixConfigs?: Iterable<{
    readonly componentType: string;
    readonly resultComponentType: string;
    readonly M: number;
    readonly N: number;
    readonly K: number;
  }>;
}

async function adapterFacts(adapter: GPUAdapter): Promise<AdapterFacts> {
  const { vendor, architecture, device, isFallbackAdapter } = adapter.info;
  const name = await adapterName(adapter.info);
  const driver = driverOf(adapter.info.description);
  return {
    vendor: /^\d+$/.test(vendor) ? `0x${Number(vendor).toString(16)}` : vendor,
    architecture,
    device,
    description: name,
    ...driver !== undefined && { driver },
    // Some software drivers do not say that they are one.
    software: isFallbackAdapter || /llvmpipe|swiftshader|software|basic render/i.test(name),
    features: [...adapter.features].map(String).sort(),
  };
}

const MATRIX_FEATURE = "chromium-experimental-subgroup-matrix";

function offeredCapabilities(
  adapter: GPUAdapter,
  facts: AdapterFacts,
  runtime: DeviceRuntime,
): Capabilities {
  const { limits } = adapter;
  const info = adapter.info as AdapterInfo;
  // Deno does not list `subgroups` but grants it; whether it did is seen on the device.
  const subgroups = info.subgroupMaxSize > 0 &&
    (runtime === "deno" || facts.features.includes("subgroups"));
  const matrix: SubgroupMatrixConfig[] = [];
  if (facts.features.includes(MATRIX_FEATURE)) {
    for (const config of info.subgroupMatrixConfigs ?? []) {
      matrix.push({
        component: config.componentType,
        result: config.resultComponentType,
        m: config.M,
        n: config.N,
        k: config.K,
      });
    }
  }
  const round = (bytes: number) => Math.floor(bytes / 256) * 256;
  return restrictCapabilities({
    f16: facts.features.includes("shader-f16"),
    subgroups,
    subgroup_min_size: info.subgroupMinSize,
    subgroup_max_size: info.subgroupMaxSize,
    subgroup_matrix: matrix,
    timestamps: facts.features.includes("timestamp-query"),
    software: facts.software,
    max_binding_bytes: round(limits.maxStorageBufferBindingSize),
    max_buffer_bytes: round(limits.maxBufferSize),
    max_uniform_bytes: limits.maxUniformBufferBindingSize,
    max_workgroup_bytes: limits.maxComputeWorkgroupStorageSize,
    max_invocations: limits.maxComputeInvocationsPerWorkgroup,
    max_storage_buffers: limits.maxStorageBuffersPerShaderStage,
    max_workgroups_per_dimension: limits.maxComputeWorkgroupsPerDimension,
  }, {});
}

async function requestDevice(
  adapter: GPUAdapter,
  wanted: Capabilities,
  facts: AdapterFacts,
): Promise<GPUDevice> {
  const features: string[] = [];
  if (wanted.f16) features.push("shader-f16");
  if (wanted.timestamps) features.push("timestamp-query");
  if (wanted.subgroup_matrix.length > 0) features.push(MATRIX_FEATURE);
  const requiredLimits = {
    maxStorageBufferBindingSize: wanted.max_binding_bytes,
    maxBufferSize: wanted.max_buffer_bytes,
    maxUniformBufferBindingSize: wanted.max_uniform_bytes,
    maxComputeWorkgroupStorageSize: wanted.max_workgroup_bytes,
    maxComputeInvocationsPerWorkgroup: wanted.max_invocations,
    maxComputeWorkgroupSizeX: wanted.max_invocations,
    maxComputeWorkgroupSizeY: wanted.max_invocations,
    maxStorageBuffersPerShaderStage: wanted.max_storage_buffers,
    maxComputeWorkgroupsPerDimension: wanted.max_workgroups_per_dimension,
  };
  const defaults: Record<string, number> = {
    maxStorageBufferBindingSize: WEBGPU_DEFAULTS.max_binding_bytes,
    maxBufferSize: WEBGPU_DEFAULTS.max_buffer_bytes,
    maxUniformBufferBindingSize: WEBGPU_DEFAULTS.max_uniform_bytes,
    maxComputeWorkgroupStorageSize: WEBGPU_DEFAULTS.max_workgroup_bytes,
    maxComputeInvocationsPerWorkgroup: WEBGPU_DEFAULTS.max_invocations,
    maxComputeWorkgroupSizeX: WEBGPU_DEFAULTS.max_invocations,
    maxComputeWorkgroupSizeY: WEBGPU_DEFAULTS.max_invocations,
    maxStorageBuffersPerShaderStage: WEBGPU_DEFAULTS.max_storage_buffers,
    maxComputeWorkgroupsPerDimension: WEBGPU_DEFAULTS.max_workgroups_per_dimension,
  };
  // A device never gets less than the defaults, whatever is asked.
  const raised = Object.fromEntries(
    Object.entries(requiredLimits).filter(([name, value]) => value > (defaults[name] ?? 0)),
  );
  const open = (features: readonly string[]) =>
    adapter.requestDevice({
      label: facts.description,
      requiredFeatures: features as GPUFeatureName[],
      requiredLimits: raised,
    });
  if (!wanted.subgroups) return await open(features);
  try {
    return await open([...features, "subgroups"]);
  } catch {
    // Offered by guess (Deno does not list it): without it, then. An adapter is spent only by a device that opened.
    return await open(features);
  }
}
