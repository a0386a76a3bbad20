/** Writes ONNX models, protobuf by hand: as much of the format as the workloads need. */

/** ints, a float (marked, since JavaScript has one kind of number), an int or a string. */
export type Attribute = number | string | readonly number[] | { readonly float: number }

export interface NodeSpec {
  readonly op: string
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  readonly attributes?: Readonly<Record<string, Attribute>>
}

export interface Model {
  readonly inputs: Readonly<Record<string, readonly number[]>>
  readonly outputs: Readonly<Record<string, readonly number[]>>
  readonly nodes: readonly NodeSpec[]
  readonly constants?: Readonly<
    Record<string, { readonly shape: readonly number[]; readonly data: Float32Array | BigInt64Array }>
  >
}

const varint = (value: number | bigint): Uint8Array => {
  const out: number[] = []
  for (let rest = BigInt.asUintN(64, BigInt(value)); ; rest >>= 7n) {
    const low = Number(rest & 127n)
    if (rest < 128n) return Uint8Array.from([...out, low])
    out.push(low | 128)
  }
}

const join = (parts: readonly Uint8Array[]): Uint8Array => {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    out.set(part, at)
    at += part.length
  }
  return out
}

const key = (field: number, wire: number) => varint((field << 3) | wire)
const int = (field: number, value: number | bigint) => join([key(field, 0), varint(value)])
const bytes = (field: number, value: Uint8Array) => join([key(field, 2), varint(value.length), value])
const text = (field: number, value: string) => bytes(field, new TextEncoder().encode(value))
const float = (field: number, value: number) => join([key(field, 5), new Uint8Array(Float32Array.of(value).buffer)])

const attribute = (name: string, value: Attribute): Uint8Array => {
  const typed = (kind: number, ...fields: readonly Uint8Array[]) => join([text(1, name), ...fields, int(20, kind)])
  if (typeof value === "string") return typed(3, text(4, value))
  if (typeof value === "number") return typed(2, int(3, value))
  if ("float" in value) return typed(1, float(2, value.float))
  return typed(7, ...value.map((each) => int(8, each)))
}

const info = ([name, shape]: readonly [string, readonly number[]]): Uint8Array => {
  const dims = join(shape.map((dim) => bytes(1, int(1, dim))))
  return join([text(1, name), bytes(2, bytes(1, join([int(1, 1), bytes(2, dims)])))])
}

/** The bytes of a model of opset 20. */
export const encodeModel = ({ inputs, outputs, nodes, constants = {} }: Model): Uint8Array => {
  const graph = join([
    ...nodes.map(({ op, inputs: from, outputs: to, attributes = {} }) =>
      bytes(
        1,
        join([
          ...from.map((name) => text(1, name)),
          ...to.map((name) => text(2, name)),
          text(3, `${op} ${to[0]}`),
          text(4, op),
          ...Object.entries(attributes).map(([name, value]) => bytes(5, attribute(name, value))),
        ]),
      ),
    ),
    text(2, "workload"),
    ...Object.entries(constants).map(([name, { shape, data }]) =>
      bytes(
        5,
        join([
          ...shape.map((dim) => int(1, dim)),
          int(2, data instanceof BigInt64Array ? 7 : 1),
          text(8, name),
          bytes(9, new Uint8Array(data.buffer, data.byteOffset, data.byteLength)),
        ]),
      ),
    ),
    ...Object.entries(inputs).map((input) => bytes(11, info(input))),
    ...Object.entries(outputs).map((output) => bytes(12, info(output))),
  ])
  return join([int(1, 9), bytes(7, graph), bytes(8, join([text(1, ""), int(2, 20)]))])
}
