/** The transpose of a row-major matrix, of float32 or of the bits of halves. */
export function transpose(values: Float32Array, rows: number, columns: number): Float32Array<ArrayBuffer>
export function transpose(values: Uint16Array, rows: number, columns: number): Uint16Array<ArrayBuffer>
export function transpose(values: Float32Array | Uint16Array, rows: number, columns: number) {
  const out = values instanceof Float32Array ? new Float32Array(values.length) : new Uint16Array(values.length)
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) out[column * rows + row] = values[row * columns + column]!
  }
  return out
}
