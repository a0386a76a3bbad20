import { ShapeError } from "../errors.ts"
import { sizeOf } from "../dtype.ts"
import type { Tensor } from "../graph/tensor.ts"

/** A tensor whose axes have names. */
interface Named {
  readonly tensor: Tensor
  readonly labels: string
}

const unique = (labels: string): boolean => new Set(labels).size === labels.length

/** `sum` over axes that are not in `kept`. */
const sumOut = ({ tensor, labels }: Named, kept: (label: string) => boolean): Named => {
  const folded = [...labels].flatMap((label, axis) => (kept(label) ? [] : [axis]))
  return folded.length === 0
    ? { tensor, labels }
    : { tensor: tensor.sum(folded), labels: [...labels].filter(kept).join("") }
}

/** The axes in the order of `to`, which has the same labels. */
const permuted = ({ tensor, labels }: Named, to: string): Tensor =>
  tensor.transpose([...to].map((label) => labels.indexOf(label)))

/** Takes the diagonal of axes that share a label, until each label stands once. */
const diagonals = ({ tensor, labels }: Named): Named => {
  const twice = [...labels].find((label, i) => labels.indexOf(label) !== i)
  if (twice === undefined) return { tensor, labels }
  const [first, second] = [labels.indexOf(twice), labels.lastIndexOf(twice)]
  const rest = [...labels].map((_, axis) => axis).filter((axis) => axis !== first && axis !== second)
  return diagonals({
    tensor: tensor.transpose([...rest, first, second]).diagonal(),
    labels: `${rest.map((axis) => labels[axis]).join("")}${twice}`,
  })
}

/** Product of two tensors, summed over what `kept` does not name: one matrix product per batch. */
const contract = (left: Named, right: Named, kept: ReadonlySet<string>): Named => {
  const a = sumOut(left, (label) => kept.has(label) || right.labels.includes(label))
  const b = sumOut(right, (label) => kept.has(label) || a.labels.includes(label))
  const shared = [...a.labels].filter((label) => b.labels.includes(label))
  const batch = shared.filter((label) => kept.has(label)).join("")
  const inner = shared.filter((label) => !kept.has(label)).join("")
  const rows = [...a.labels].filter((label) => !shared.includes(label)).join("")
  const columns = [...b.labels].filter((label) => !shared.includes(label)).join("")
  const dims = (named: Named, labels: string) =>
    [...labels].map((label) => named.tensor.shape[named.labels.indexOf(label)]!)
  const [B, M, N, K] = [dims(a, batch), dims(a, rows), dims(b, columns), dims(a, inner)]
  const lead = B.length > 0 ? [sizeOf(B)] : []
  const x = permuted(a, batch + rows + inner).reshape([...lead, sizeOf(M), sizeOf(K)])
  // The transposed layout reads both operands along k.
  const y = permuted(b, batch + columns + inner).reshape([...lead, sizeOf(N), sizeOf(K)])
  return { tensor: x.matmul(y, { transposeB: true }).reshape([...B, ...M, ...N]), labels: batch + rows + columns }
}

/** Refuses a formula that does not describe the operands. */
const parse = (formula: string, tensors: readonly Tensor[]) => {
  const fail = (why: string) => new ShapeError("einsum", `"${formula}" ${why}`)
  const [left, right, ...more] = formula.replaceAll(" ", "").split("->")
  const inputs = left!.split(",")
  if (more.length > 0 || !inputs.every((labels) => /^[a-zA-Z]*$/.test(labels)))
    throw fail("is not a formula such as ij,jk->ik")
  if (inputs.length !== tensors.length) throw fail(`has ${inputs.length} operands, not ${tensors.length}`)
  const dims = new Map<string, number>()
  inputs.forEach((labels, i) => {
    const { shape } = tensors[i]!
    if (labels.length !== shape.length)
      throw fail(`names ${labels.length} axes of operand ${i}, which has ${shape.length}`)
    shape.forEach((dim, axis) => {
      const label = labels[axis]!
      if ((dims.get(label) ?? dim) !== dim) throw fail(`gives axis ${label} the sizes ${dims.get(label)} and ${dim}`)
      dims.set(label, dim)
    })
  })
  const once = [...dims.keys()].filter((label) => inputs.join("").split(label).length === 2)
  const output = right ?? once.sort().join("")
  if (!unique(output) || [...output].some((label) => !dims.has(label)))
    throw fail("has an output that its operands do not make")
  return { inputs, output }
}

/**
 * Einstein's sum: axes with one name run together, and those that the output does not name are summed.
 * `einsum("bij,bjk->bik", a, b)` is a batched matrix product, `einsum("ii", a)` a trace. Without `->` the output has the
 * names that occur once, in alphabetical order. Operands are contracted from left to right, each pair as a matrix product.
 */
export const einsum = (formula: string, ...tensors: readonly Tensor[]): Tensor => {
  const { inputs, output } = parse(formula, tensors)
  const named = tensors.map((tensor, i) => diagonals({ tensor, labels: inputs[i]! }))
  const result = named.reduce((left, right, i) => {
    const later = named.slice(i + 1).map(({ labels }) => labels)
    return contract(left, right, new Set(output + later.join("")))
  })
  return permuted(
    sumOut(result, (label) => output.includes(label)),
    output,
  )
}
