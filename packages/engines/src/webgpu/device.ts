import { EngineError } from "@rlpt/core"
import { openDevice, type Gpu, type OpenDeviceOptions } from "@rlpt/tensor"
import { Context, Effect, Layer } from "effect"

/** The WebGPU device that the engines of a process share. */
export class GpuDevice extends Context.Service<GpuDevice, Gpu>()("@rlpt/engines/GpuDevice") {
  /** Opens the device and destroys it when the scope ends. */
  static readonly layer = (options: OpenDeviceOptions = {}): Layer.Layer<GpuDevice, EngineError> =>
    Layer.effect(
      GpuDevice,
      Effect.acquireRelease(
        attempt("cannot open a GPU", () => openDevice(options)),
        (gpu) => Effect.sync(() => gpu.destroy()),
      ),
    )
}

/** Runs GPU work; what it throws becomes an {@link EngineError} that keeps the message. */
export const attempt = <A>(what: string, run: () => Promise<A>): Effect.Effect<A, EngineError> =>
  Effect.tryPromise({
    try: run,
    catch: (cause) =>
      new EngineError({ message: `${what}: ${cause instanceof Error ? cause.message : String(cause)}`, cause }),
  })
