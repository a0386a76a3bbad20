import { describe, expect, test } from "vitest"
import { adamw, DeviceLostError, linear, openDevice, valueAndGrad, type Gpu, type Tensor } from "../../src/index.ts"
import { expectSameBits } from "../reference.ts"

/** Three steps of training from the start. */
const train = async (gpu: Gpu): Promise<Float32Array> => {
  const weight = gpu.normal([8, 8], { seed: 1 })
  const optimizer = adamw([weight])
  const step = gpu.compile((x: Tensor) => optimizer.step(valueAndGrad((w) => linear(x, w!).square().mean(), [weight])))
  for (let i = 0; i < 3; i++) step(gpu.normal([4, 8], { seed: 2 + i })).dispose()
  return (await weight.data()) as Float32Array
}

describe("a device that is lost", () => {
  test("says so wherever it is used, naming the operation; a new one gives the same bits", async () => {
    const gpu = await openDevice()
    const trained = await train(gpu)
    const [x, y] = [gpu.tensor([1, 2, 3]), gpu.tensor([4, 5, 6])]
    const add = gpu.compile((t: Tensor) => t.add(1), { name: "add one" })
    const waiting = add(x).data()
    // The driver's word for a loss that nobody here has asked for.
    gpu.device.destroy()
    await expect(waiting).rejects.toThrow(DeviceLostError)
    await gpu.device.lost

    const uses: Readonly<Record<string, () => unknown>> = {
      read: () => x.data(),
      sync: () => gpu.sync(),
      write: () => gpu.write(x, new Float32Array(3)),
      clear: () => gpu.clear(x),
      mine: () => gpu.tensor([1], [1], "mine"),
      "add one": () => add(x),
      effect: () => gpu.accumulate(x, y),
    }
    for (const [operation, use] of Object.entries(uses)) {
      const error = await Promise.resolve()
        .then(use)
        .catch((thrown: unknown) => thrown)
      expect(error, operation).toBeInstanceOf(DeviceLostError)
      expect((error as DeviceLostError).operation).toBe(operation)
      expect((error as DeviceLostError).message).toMatch(/the device was lost .*open a new one/)
    }
    // Cleaning up after it is no error.
    x.dispose()
    gpu.trim()
    gpu.destroy()

    const again = await openDevice()
    expectSameBits(await train(again), trained)
    again.destroy()
  })

  test("can be lost and opened again many times", async () => {
    for (let i = 0; i < 5; i++) {
      const gpu = await openDevice()
      expect(await gpu.tensor([i, 1]).sum().item()).toBe(i + 1)
      gpu.device.destroy()
      await gpu.device.lost
      expect(() => gpu.tensor([1])).toThrow(DeviceLostError)
    }
  })
})
