/** Which addresses lead to this machine itself: what is sent there leaves it on no wire. */

/** Whether only this machine can reach a daemon that listens there. */
export function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "::1" || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(hostname);
}

/** Whether a URL names loopback or an address of this machine. A name other than `localhost` may be anybody's. */
export function isThisMachine(url: string): boolean {
  const hostname = new URL(url).hostname.replace(/^\[(.*)\]$/, "$1").toLowerCase();
  return isLoopback(hostname) ||
    Deno.networkInterfaces().some(({ address }) => address.toLowerCase() === hostname);
}
