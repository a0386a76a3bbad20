import { isQuantized, quantizedWords, type DType, type PackedType, type QuantizedType } from "@rlpt/tensor"
import { ModelError } from "../errors.ts"
import type { FileReader } from "../files.ts"
import { sizeOf, type ParameterPart } from "../parameters.ts"
import { transpose } from "../transpose.ts"
import { bytesOf, checkFinite, checkShape, joined, readBlocks, readHalves, type Weights } from "../weights.ts"
import type { Architecture, Conversion, TensorRule } from "./architectures.ts"
import { blockTypes } from "./blocks.ts"
import type { GgufTensor } from "./reader.ts"

/** Divisors of the rotary frequencies: part of the configuration, not of the weights. */
export const ROPE_FACTORS = ["rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"] as const

export type RopeFactors = Readonly<Partial<Record<(typeof ROPE_FACTORS)[number], ReadonlyArray<number>>>>

/** The tensors of a GGUF file under the names, and with the values, that a Hugging Face checkpoint has. */
export class GgufWeights implements Weights {
  private readonly tensors = new Map<string, GgufTensor & { readonly conversion: Conversion | undefined }>()

  /** @param heads query and key-value heads, for undoing the converter's order of rows */
  constructor(
    readonly listing: string,
    private readonly reader: FileReader,
    tensors: ReadonlyMap<string, GgufTensor>,
    architecture: Architecture,
    private readonly heads: { readonly queries: number; readonly keys: number },
  ) {
    for (const [name, tensor] of tensors) {
      if ((ROPE_FACTORS as ReadonlyArray<string>).includes(name)) continue
      const { hf, conversion } = translate(name, architecture.tensors)
      this.tensors.set(hf, { ...tensor, conversion })
    }
  }

  get names(): Iterable<string> {
    return this.tensors.keys()
  }

  has(name: string): boolean {
    return this.tensors.has(name)
  }

  async read(part: ParameterPart): Promise<Float32Array<ArrayBuffer>> {
    const tensor = this.tensor(part)
    const values = await readGgufTensor(this.reader, tensor)
    checkFinite(values, part.name, this.listing)
    return this.undo(tensor.conversion, values, tensor.shape)
  }

  storedAs(part: ParameterPart): DType {
    const { conversion, type } = this.tensor(part)
    const inDecodersRows = (conversion === "transposed") === (part.transposed === true)
    return conversion === "plus one" || !inDecodersRows ? "f32" : blockTypes[type].dtype
  }

  async readPacked(part: ParameterPart, dtype: PackedType): Promise<Uint8Array<ArrayBuffer>> {
    const tensor = this.tensor(part)
    const bytes = isQuantized(dtype)
      ? await this.readQuantized(tensor, part.name, dtype)
      : bytesOf(await readHalves(this.reader, tensor, part, dtype, this.listing))
    switch (tensor.conversion) {
      case "queries to pairs":
        return pairsToHalves(bytes, tensor.shape[0]!, this.heads.queries)
      case "keys to pairs":
        return pairsToHalves(bytes, tensor.shape[0]!, this.heads.keys)
      default:
        return bytes
    }
  }

  close(): Promise<void> {
    return this.reader.close()
  }

  private async readQuantized(
    tensor: GgufTensor,
    name: string,
    dtype: QuantizedType,
  ): Promise<Uint8Array<ArrayBuffer>> {
    const { bytes, numbers } = blockTypes[tensor.type]
    const parts: Uint8Array<ArrayBuffer>[] = []
    await readBlocks(this.reader, tensor, bytes, (source) => {
      const quantized = numbers!(source)
      checkFinite(quantized.scales, name, this.listing)
      if (quantized.offsets) checkFinite(quantized.offsets, name, this.listing)
      parts.push(bytesOf(quantizedWords(dtype, quantized)))
    })
    return joined(parts)
  }

  /** The tensor of a part, whose shape is checked. */
  private tensor(part: ParameterPart) {
    const tensor = this.tensors.get(part.name)
    if (tensor === undefined) throw new ModelError("missing-tensor", this.listing, `tensor "${part.name}" is missing`)
    const transposed = tensor.conversion === "transposed" && tensor.shape.length === 2
    checkShape(part, transposed ? tensor.shape.toReversed() : tensor.shape, this.listing)
    return tensor
  }

  private undo(
    conversion: Conversion | undefined,
    values: Float32Array<ArrayBuffer>,
    shape: ReadonlyArray<number>,
  ): Float32Array<ArrayBuffer> {
    switch (conversion) {
      case undefined:
        return values
      case "queries to pairs":
        return pairsToHalves(values, shape[0]!, this.heads.queries)
      case "keys to pairs":
        return pairsToHalves(values, shape[0]!, this.heads.keys)
      case "plus one":
        return values.map((value) => value - 1)
      case "transposed":
        return shape.length === 2 ? transpose(values, shape[0]!, shape[1]!) : values
    }
  }
}

/** A tensor's values as float32, dequantised block by block. */
export const readGgufTensor = async (reader: FileReader, tensor: GgufTensor): Promise<Float32Array<ArrayBuffer>> => {
  const values = new Float32Array(sizeOf(tensor.shape))
  const { bytes, elements, decode } = blockTypes[tensor.type]
  await readBlocks(reader, tensor, bytes, (source, first) => decode(source, values.subarray(first * elements)))
  return values
}

/** The checkpoint's name of a tensor; a name without a rule stays, and is reported as unexpected. */
const translate = (
  name: string,
  rules: ReadonlyArray<TensorRule>,
): { hf: string; conversion: Conversion | undefined } => {
  const [, layer, stem, suffix] = /^(?:blk\.(\d+)\.)?(.+)\.(weight|bias)$/.exec(name) ?? []
  const wanted = layer === undefined ? stem : `blk.{layer}.${stem}`
  const rule = rules.find(({ gguf }) => gguf === wanted)
  if (rule === undefined) return { hf: name, conversion: undefined }
  return { hf: `${rule.hf.replace("{layer}", layer ?? "")}.${suffix}`, conversion: rule.conversion }
}

/** Undoes `LlamaModel.permute`: within each head, rows 2i and 2i + 1 go back to i and i + half. Of values or bytes. */
const pairsToHalves = <A extends Float32Array<ArrayBuffer> | Uint8Array<ArrayBuffer>>(
  values: A,
  rows: number,
  heads: number,
): A => {
  const width = values.length / rows
  const half = rows / heads / 2
  const out = values.slice() as A
  for (let row = 0; row < rows; row++) {
    const within = row % (2 * half)
    const target = row - within + (within >> 1) + (within & 1) * half
    out.set(values.subarray(row * width, (row + 1) * width), target * width)
  }
  return out
}
