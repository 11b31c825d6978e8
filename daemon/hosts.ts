/** Hosts as they stand in URLs. */

const WILDCARD_HOSTS = new Map([["0.0.0.0", "127.0.0.1"], ["::", "[::1]"]]);

/**
 * Where this machine reaches a daemon listening on `hostname`: an address for everybody is reached by loopback, which
 * works even where the advertised name can't be resolved here.
 */
export function localHost(hostname: string): string {
  return WILDCARD_HOSTS.get(hostname) ?? urlHost(hostname);
}

/** A host as it stands in a URL: IPv6 in brackets. */
export function urlHost(hostname: string): string {
  return hostname.includes(":") ? `[${hostname}]` : hostname;
}

/** Under what others reach a daemon that listens on `hostname`: what it is told to say, or what can be known here. */
export function advertisedHost(hostname: string, advertise: string | undefined): string {
  const isWildcard = WILDCARD_HOSTS.has(hostname);
  return urlHost(advertise ?? (isWildcard ? Deno.hostname() : hostname));
}
