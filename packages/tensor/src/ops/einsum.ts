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

/** Names of the axes that "..." stands for, the last axis first: no letters that a formula could use. */
const ellipsisLabel = (fromTheEnd: number): string => String.fromCharCode(0x3b1 + fromTheEnd)

/** `labels` with the names of `rank` axes in place of "...". */
const expand = (labels: string, rank: number): string =>
  labels.replace("...", Array.from({ length: rank }, (_, i) => ellipsisLabel(rank - 1 - i)).join(""))

/** Refuses a formula that does not describe the operands. */
const parse = (formula: string, tensors: readonly Tensor[]) => {
  const fail = (why: string) => new ShapeError("einsum", `"${formula}" ${why}`)
  const [left, right, ...more] = formula.replaceAll(" ", "").split("->")
  const written = left!.split(",")
  if (more.length > 0 || ![...written, right ?? ""].every((labels) => /^[a-zA-Z]*(\.\.\.)?[a-zA-Z]*$/.test(labels)))
    throw fail("is not a formula such as ij,jk->ik")
  if (written.length !== tensors.length) throw fail(`has ${written.length} operands, not ${tensors.length}`)
  const ranks = written.map((labels, i) => {
    const { length } = tensors[i]!.shape
    const named = labels.replace("...", "").length
    if (labels.includes("...") ? named > length : named !== length)
      throw fail(`names ${named} axes of operand ${i}, which has ${length}`)
    return length - named
  })
  const inputs = written.map((labels, i) => expand(labels, ranks[i]!))
  const dims = new Map<string, number>()
  inputs.forEach((labels, i) =>
    tensors[i]!.shape.forEach((dim, axis) => {
      const label = labels[axis]!
      const known = dims.get(label) ?? dim
      // Only the axes of "..." broadcast.
      const broadcasts = label >= ellipsisLabel(0) && (known === 1 || dim === 1)
      if (known !== dim && !broadcasts) throw fail(`gives axis ${label} the sizes ${known} and ${dim}`)
      dims.set(label, known === 1 ? dim : known)
    }),
  )
  const rank = Math.max(0, ...ranks)
  const once = [...dims.keys()].filter((label) => label < ellipsisLabel(0) && inputs.join("").split(label).length === 2)
  const output = expand(right ?? `...${once.sort().join("")}`, rank)
  if (!unique(output) || [...output].some((label) => !dims.has(label)))
    throw fail("has an output that its operands do not make")
  return { inputs, output, dims }
}

/** Drops axes of size 1 that another operand is longer in: what does not have an axis is repeated along it. */
const withoutBroadcasts = ({ tensor, labels }: Named, dims: ReadonlyMap<string, number>): Named => {
  const repeated = [...labels].flatMap((label, axis) => (tensor.shape[axis] === dims.get(label) ? [] : [axis]))
  return repeated.length === 0
    ? { tensor, labels }
    : { tensor: tensor.squeeze(repeated), labels: [...labels].filter((_, axis) => !repeated.includes(axis)).join("") }
}

/**
 * Einstein's sum: axes with one name run together, and those that the output does not name are summed.
 * `einsum("bij,bjk->bik", a, b)` is a batched matrix product, `einsum("ii", a)` a trace. Without `->` the output has the
 * names that occur once, in alphabetical order. "..." stands for axes without names, which broadcast and lead the output:
 * `einsum("...ij,...jk", a, b)`. Operands are contracted from left to right, each pair as a matrix product.
 */
export const einsum = (formula: string, ...tensors: readonly Tensor[]): Tensor => {
  const { inputs, output, dims } = parse(formula, tensors)
  const named = tensors.map((tensor, i) => withoutBroadcasts(diagonals({ tensor, labels: inputs[i]! }), dims))
  const result = named.reduce((left, right, i) => {
    const later = named.slice(i + 1).map(({ labels }) => labels)
    return contract(left, right, new Set(output + later.join("")))
  })
  return permuted(
    sumOut(result, (label) => output.includes(label)),
    output,
  )
}
