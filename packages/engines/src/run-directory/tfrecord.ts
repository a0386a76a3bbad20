/**
 * TFRecord framing: little-endian u64 length, masked crc32c of the length, data, masked crc32c of the data
 * (tensorflow/core/lib/io/record_writer.h).
 */

// Castagnoli polynomial, reflected.
const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1
  return value >>> 0
})

/** CRC-32C of `bytes`, as an unsigned 32-bit number (RFC 3720, appendix B.4). */
export const crc32c = (bytes: Uint8Array): number => {
  let crc = 0xffffffff
  for (const byte of bytes) crc = (table[(crc ^ byte) & 0xff] ?? 0) ^ (crc >>> 8)
  return (crc ^ 0xffffffff) >>> 0
}

// A checksum of data that itself contains checksums is weak, so TensorFlow rotates and shifts it.
const masked = (bytes: Uint8Array): number => {
  const crc = crc32c(bytes)
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0
}

const headerLength = 12
const footerLength = 4

/** `data` as one record. */
export const encodeRecord = (data: Uint8Array): Uint8Array => {
  const record = new Uint8Array(headerLength + data.length + footerLength)
  const view = new DataView(record.buffer)
  view.setBigUint64(0, BigInt(data.length), true)
  view.setUint32(8, masked(record.subarray(0, 8)), true)
  record.set(data, headerLength)
  view.setUint32(headerLength + data.length, masked(data), true)
  return record
}

/** The whole, undamaged records at the start of `bytes`, each with the offset at which it ends. */
export function* decodeRecords(bytes: Uint8Array): Generator<{ readonly data: Uint8Array; readonly end: number }> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  let offset = 0
  while (offset + headerLength <= bytes.length) {
    if (view.getUint32(offset + 8, true) !== masked(bytes.subarray(offset, offset + 8))) return
    const start = offset + headerLength
    const end = start + Number(view.getBigUint64(offset, true)) + footerLength
    if (end > bytes.length) return
    const data = bytes.subarray(start, end - footerLength)
    if (view.getUint32(end - footerLength, true) !== masked(data)) return
    yield { data, end }
    offset = end
  }
}
