export * from "./options.ts"
