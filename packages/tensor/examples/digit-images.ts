import { pcg4d } from "../src/index.ts"

/** A font of 5 × 7 cells: seven rows a digit, five bits a row. */
const font = [
  [14, 17, 19, 21, 25, 17, 14],
  [4, 12, 4, 4, 4, 4, 14],
  [14, 17, 1, 2, 4, 8, 31],
  [31, 2, 4, 2, 1, 17, 14],
  [2, 6, 10, 18, 31, 2, 2],
  [31, 16, 30, 1, 1, 17, 14],
  [6, 8, 16, 30, 17, 17, 14],
  [31, 1, 2, 4, 8, 8, 8],
  [14, 17, 17, 14, 17, 17, 14],
  [14, 17, 17, 15, 1, 2, 12],
] as const

/** Width and height of an image. */
export const side = 28

export interface Digits {
  /** Brightness from 0 to 1, [count, side²]. */
  readonly images: Float32Array<ArrayBuffer>
  /** 0 … 9, [count]. */
  readonly labels: Int32Array<ArrayBuffer>
}

/** How much ink lies at (x, y) of a digit, in cells; smooth between them. */
const ink = (digit: number, x: number, y: number): number => {
  const cell = (column: number, row: number) =>
    column >= 0 && column < 5 && row >= 0 && row < 7 ? (font[digit]![row]! >> (4 - column)) & 1 : 0
  const [left, top] = [Math.floor(x), Math.floor(y)]
  const [dx, dy] = [x - left, y - top]
  return (
    (cell(left, top) * (1 - dx) + cell(left + 1, top) * dx) * (1 - dy) +
    (cell(left, top + 1) * (1 - dx) + cell(left + 1, top + 1) * dx) * dy
  )
}

/** Digits like those of MNIST: turned, sheared, moved, scaled, and noisy. A function of the seed. */
export const makeDigits = (count: number, seed: number): Digits => {
  const images = new Float32Array(count * side * side)
  const labels = new Int32Array(count)
  for (let n = 0; n < count; n++) {
    const uniform = [0, 1].flatMap((part) => pcg4d(seed, n, part, 0)).map((word) => (word / 2 ** 32) * 2 - 1)
    const [which, angle, shear, width, height, right, down] = uniform as [
      number,
      number,
      number,
      number,
      number,
      number,
      number,
    ]
    const digit = Math.floor((which + 1) * 5)
    labels[n] = digit
    const [cos, sin] = [Math.cos(0.3 * angle), Math.sin(0.3 * angle)]
    const [cellWidth, cellHeight] = [3.2 + 0.7 * width, 3 + 0.5 * height]
    for (let row = 0; row < side; row++)
      for (let column = 0; column < side; column++) {
        const [x, y] = [column - side / 2 - 3 * right, row - side / 2 - 2 * down]
        const turned = cos * x + sin * y + 0.3 * shear * y
        const bright = ink(digit, turned / cellWidth + 2, (cos * y - sin * x) / cellHeight + 3)
        const [noise] = pcg4d(seed, n, row * side + column, 1)
        images[(n * side + row) * side + column] = Math.min(
          1,
          Math.max(0, 1.4 * bright + 0.25 * (noise / 2 ** 32 - 0.5)),
        )
      }
  }
  return { images, labels }
}
