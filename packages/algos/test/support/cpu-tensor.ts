import type { TokenTensor } from "@rlpt/core"

/**
 * A small `TokenTensor` in float64 with reverse-mode gradients: the reference that losses are evaluated on here, so
 * that what is compared with TRL and verl is the formula and not a GPU.
 */
export class CpuTensor implements TokenTensor {
  readonly values: Float64Array
  readonly gradient: Float64Array
  /** Hands this tensor's gradient on to what it was made of. */
  readonly #backward: () => void
  readonly #parents: ReadonlyArray<CpuTensor>

  constructor(
    values: ArrayLike<number>,
    parents: ReadonlyArray<CpuTensor> = [],
    backward: (self: CpuTensor) => void = () => {},
  ) {
    this.values = Float64Array.from(values)
    this.gradient = new Float64Array(values.length)
    this.#parents = parents
    this.#backward = () => backward(this)
  }

  /** Adds the gradients of Σ weightᵢ · thisᵢ to all tensors that this one was made of. */
  backward(weights: ArrayLike<number>): void {
    const order: Array<CpuTensor> = []
    const seen = new Set<CpuTensor>()
    const visit = (tensor: CpuTensor): void => {
      if (seen.has(tensor)) return
      seen.add(tensor)
      tensor.#parents.forEach(visit)
      order.push(tensor)
    }
    visit(this)
    this.gradient.set(Float64Array.from(weights))
    for (const tensor of order.toReversed()) tensor.#backward()
  }

  #unary(f: (x: number) => number, derivative: (x: number, y: number) => number): CpuTensor {
    return new CpuTensor(this.values.map(f), [this], (self) => {
      self.gradient.forEach((g, i) => {
        const slope = derivative(this.values[i]!, self.values[i]!)
        if (slope !== 0) this.gradient[i]! += g * slope
      })
    })
  }

  #binary(
    other: TokenTensor | number,
    f: (a: number, b: number) => number,
    derivatives: (a: number, b: number) => readonly [number, number],
  ): CpuTensor {
    const right = typeof other === "number" ? new CpuTensor(this.values.map(() => other)) : (other as CpuTensor)
    if (right.values.length !== this.values.length) throw new Error("lengths differ")
    return new CpuTensor(
      this.values.map((a, i) => f(a, right.values[i]!)),
      [this, right],
      (self) => {
        self.gradient.forEach((g, i) => {
          const [da, db] = derivatives(this.values[i]!, right.values[i]!)
          this.gradient[i]! += g * da
          right.gradient[i]! += g * db
        })
      },
    )
  }

  add(other: TokenTensor | number) {
    return this.#binary(
      other,
      (a, b) => a + b,
      () => [1, 1],
    )
  }
  sub(other: TokenTensor | number) {
    return this.#binary(
      other,
      (a, b) => a - b,
      () => [1, -1],
    )
  }
  mul(other: TokenTensor | number) {
    return this.#binary(
      other,
      (a, b) => a * b,
      (a, b) => [b, a],
    )
  }
  div(other: TokenTensor | number) {
    return this.#binary(
      other,
      (a, b) => a / b,
      (a, b) => [1 / b, -a / b ** 2],
    )
  }
  minimum(other: TokenTensor | number) {
    return this.#binary(other, Math.min, (a, b) => (a <= b ? [1, 0] : [0, 1]))
  }
  maximum(other: TokenTensor | number) {
    return this.#binary(other, Math.max, (a, b) => (a >= b ? [1, 0] : [0, 1]))
  }
  clamp(low: number, high: number) {
    return this.#unary(
      (x) => Math.min(Math.max(x, low), high),
      (x) => (x >= low && x <= high ? 1 : 0),
    )
  }
  neg() {
    return this.#unary(
      (x) => -x,
      () => -1,
    )
  }
  exp() {
    return this.#unary(Math.exp, (_, y) => y)
  }
  log() {
    return this.#unary(Math.log, (x) => 1 / x)
  }
  abs() {
    return this.#unary(Math.abs, Math.sign)
  }
  square() {
    return this.#unary(
      (x) => x * x,
      (x) => 2 * x,
    )
  }
  sigmoid() {
    return this.#unary(
      (x) => 1 / (1 + Math.exp(-x)),
      (_, y) => y * (1 - y),
    )
  }
  stopGradient() {
    return new CpuTensor(this.values)
  }
  greater(other: TokenTensor | number) {
    return this.#binary(
      other,
      (a, b) => Number(a > b),
      () => [0, 0],
    )
  }
  less(other: TokenTensor | number) {
    return this.#binary(
      other,
      (a, b) => Number(a < b),
      () => [0, 0],
    )
  }
}
