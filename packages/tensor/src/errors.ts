/** Base of everything this library throws on purpose: `name` tells which, `operation` where. */
export class TensorError extends Error {
  override readonly name: string = "TensorError"
  constructor(
    readonly operation: string,
    message: string,
    options?: ErrorOptions,
  ) {
    super(`${operation}: ${message}`, options)
  }
}

/** Shapes or dtypes that do not fit an operation. */
export class ShapeError extends TensorError {
  override readonly name = "ShapeError"
}

/** The memory limit, or the device's own, was reached. The device goes on working. */
export class OutOfMemoryError extends TensorError {
  override readonly name = "OutOfMemoryError"
}

/** WGSL or WebGPU refused something: a defect of this library, reported with the operation it came from. */
export class ValidationError extends TensorError {
  override readonly name = "ValidationError"
}

/** A kernel computed something else than it must: a defect of the adapter's driver. Results since then are void. */
export class KernelError extends TensorError {
  override readonly name = "KernelError"
}

/** The device is gone; open a new one. */
export class DeviceLostError extends TensorError {
  override readonly name = "DeviceLostError"
}
