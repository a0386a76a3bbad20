// Draws the reward curve of a run as SVG: `bun scripts/plot.ts runs/<name> > docs/reward.svg`.
import { readFileSync } from "node:fs"
import { join } from "node:path"

const [, , run = "."] = process.argv
const lines = readFileSync(join(run, "metrics.jsonl"), "utf8").trim().split("\n")
const records = lines.map((line) => JSON.parse(line) as Readonly<Record<string, number>>)
const series = (name: string): readonly Point[] =>
  records.flatMap((record) => (record[name] === undefined ? [] : [{ step: record["step"]!, value: record[name] }]))

interface Point {
  readonly step: number
  readonly value: number
}

const [width, height, left, bottom, top] = [720, 300, 44, 34, 16]
const curves = [
  { name: "reward of sampled answers", points: series("reward"), colour: "#7c8cf8", thickness: 1.5 },
  { name: "accuracy on held-out problems", points: series("eval/accuracy"), colour: "#e0703a", thickness: 3 },
]
const last = Math.max(...curves.flatMap(({ points }) => points.map(({ step }) => step)))
const x = (step: number) => left + (step / last) * (width - left - 16)
const y = (value: number) => top + (1 - value) * (height - top - bottom)
const at = ({ step, value }: Point) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`

const grid = [0, 0.25, 0.5, 0.75, 1].map(
  (value) =>
    `<line x1="${left}" y1="${y(value)}" x2="${width - 16}" y2="${y(value)}" stroke="#8884" />` +
    `<text x="${left - 8}" y="${y(value) + 4}" text-anchor="end">${value}</text>`,
)
const steps = [0, 0.25, 0.5, 0.75, 1].map(
  (part) => `<text x="${x(part * last)}" y="${height - 12}" text-anchor="middle">${Math.round(part * last)}</text>`,
)
const paths = curves.map(
  ({ points, colour, thickness }) =>
    `<polyline points="${points.map(at).join(" ")}" fill="none" stroke="${colour}" stroke-width="${thickness}" stroke-linejoin="round" />`,
)
const legend = curves.map(
  ({ name, colour }, i) =>
    `<rect x="${width - 246}" y="${height - bottom - 52 + 20 * i}" width="14" height="4" fill="${colour}" />` +
    `<text x="${width - 226}" y="${height - bottom - 46 + 20 * i}">${name}</text>`,
)
process.stdout.write(
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="12" fill="#888">
${[...grid, ...steps, ...paths, ...legend].join("\n")}
</svg>
`,
)
