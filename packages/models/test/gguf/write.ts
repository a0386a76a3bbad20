/** A GGUF file written by the letter of its specification, for tests; every field can be made wrong. */

export type Value =
  | { readonly type: 4; readonly value: number }
  | { readonly type: 6; readonly value: number }
  | { readonly type: 7; readonly value: boolean }
  | { readonly type: 8; readonly value: string }
  | { readonly type: 9; readonly value: ReadonlyArray<string> }

export interface Tensor {
  readonly name: string
  /** As PyTorch writes shapes. */
  readonly shape: ReadonlyArray<number>
  /** `enum ggml_type` */
  readonly type: number
  readonly data: Uint8Array
  /** Instead of where the data are. */
  readonly offset?: number
}

export const u32 = (value: number): Value => ({ type: 4, value })
export const f32 = (value: number): Value => ({ type: 6, value })
export const text = (value: string): Value => ({ type: 8, value })

const ALIGNMENT = 32

export const writeGguf = (
  metadata: Readonly<Record<string, Value>>,
  tensors: ReadonlyArray<Tensor>,
  { version = 3, magic = "GGUF" } = {},
): Uint8Array => {
  const parts: Uint8Array[] = []
  const push = (bytes: number, set: (view: DataView) => void) => {
    const view = new DataView(new ArrayBuffer(bytes))
    set(view)
    parts.push(new Uint8Array(view.buffer))
  }
  const int = (value: number) => push(4, (view) => view.setUint32(0, value, true))
  const long = (value: number) => push(8, (view) => view.setBigUint64(0, BigInt(value), true))
  const string = (value: string) => {
    const bytes = new TextEncoder().encode(value)
    long(bytes.length)
    parts.push(bytes)
  }
  parts.push(new TextEncoder().encode(magic))
  int(version)
  long(tensors.length)
  long(Object.keys(metadata).length)
  for (const [key, { type, value }] of Object.entries(metadata)) {
    string(key)
    int(type)
    if (type === 4) int(value)
    else if (type === 6) push(4, (view) => view.setFloat32(0, value, true))
    else if (type === 7) push(1, (view) => view.setUint8(0, value ? 1 : 0))
    else if (type === 8) string(value)
    else {
      int(8)
      long(value.length)
      value.forEach(string)
    }
  }
  let offset = 0
  for (const tensor of tensors) {
    string(tensor.name)
    int(tensor.shape.length)
    tensor.shape.toReversed().forEach(long)
    int(tensor.type)
    long(tensor.offset ?? offset)
    offset += Math.ceil(tensor.data.length / ALIGNMENT) * ALIGNMENT
  }
  const padding = () => {
    const length = parts.reduce((sum, part) => sum + part.length, 0)
    parts.push(new Uint8Array((ALIGNMENT - (length % ALIGNMENT)) % ALIGNMENT))
  }
  padding()
  for (const { data } of tensors) {
    parts.push(data)
    padding()
  }
  return new Uint8Array(Buffer.concat(parts))
}
