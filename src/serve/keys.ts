/** Who may ask: API keys. */
import { createHash, timingSafeEqual } from "node:crypto";
import { isIPv4 } from "node:net";
import { InputError } from "../core/errors.js";
import { ApiError } from "./errors.js";

export const DEFAULT_ADDRESS = { host: "127.0.0.1", port: 8000 };

const digest = (text: string): Buffer => createHash("sha256").update(text).digest();

/**
 * Checks the header `Authorization: Bearer KEY`. Digests are compared, each with every key and in constant time: how long an
 * answer takes tells nothing of a key, not even its length.
 * @param keys none: everybody may ask
 * @returns a check that throws an ApiError of status 401
 */
export function keyCheck(keys: readonly string[]): (authorization: string | undefined) => void {
  const digests = keys.map(digest);
  return (authorization) => {
    if (digests.length === 0) return;
    const given = /^bearer /i.test(authorization ?? "") ? authorization?.slice("bearer ".length).trim() : "";
    if (given === undefined || given === "")
      throw new ApiError(401, "No API key; send it in the header Authorization: Bearer KEY", {
        code: "missing_api_key",
      });
    const found = digest(given);
    let isKnown = false;
    for (const key of digests) if (timingSafeEqual(key, found)) isKnown = true;
    if (!isKnown) throw new ApiError(401, "Unknown API key", { code: "invalid_api_key" });
  };
}

/** @throws InputError when a key is one that no header can carry, or that is no secret */
export function checkKeys(keys: readonly string[]): void {
  for (const key of keys)
    if (!/^[\x21-\x7e]{8,}$/.test(key))
      throw new InputError(
        "An API key is too short, or has spaces or characters beyond ASCII; wanted at least 8 printable ASCII characters",
      );
}

/** Whether only this machine can reach the address. */
export function isLoopback(host: string): boolean {
  const bare = host.replace(/^\[(.*)\]$/, "$1").toLowerCase();
  return bare === "localhost" || bare === "::1" || (isIPv4(bare) && bare.startsWith("127."));
}

/** @throws InputError when others could reach the server and nothing would ask them for a key */
export function checkAddress(host: string, keys: readonly string[]): void {
  if (isLoopback(host) || keys.length > 0) return;
  throw new InputError(
    `${host} can be reached from other machines, and there is no API key; give one (--api-key, or SCMOE_API_KEY), or listen on 127.0.0.1`,
  );
}
