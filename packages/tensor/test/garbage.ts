/** Runs a full garbage collection and lets finalisers have their turn. */
export const collectGarbage = async (): Promise<void> => {
  const { Bun, gc } = globalThis as { Bun?: { gc(force: boolean): void }; gc?: () => void }
  for (let i = 0; i < 2; i++) {
    if (Bun) Bun.gc(true)
    else gc?.()
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
