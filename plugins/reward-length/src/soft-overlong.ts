/**
 * Soft overlong punishment of DAPO (arXiv:2503.14476, eq. 13; `soft_overlong_punishment` in TRL), in [−1, 0]:
 * 0 up to `maxLength − cache`, then falling linearly to −1 at `maxLength`, and −1 beyond.
 */
export const softOverlongPunishment = (length: number, maxLength: number, cache: number): number => {
  const free = maxLength - cache
  if (length <= free) return 0
  return length <= maxLength ? (free - length) / cache : -1
}
