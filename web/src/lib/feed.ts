/**
 * Events from the server, one stream for all pages of this console in a browser: it opens six
 * connections to a host at most, and a nurse opens more pages than that. The page that holds the
 * lock has the stream and passes on what it hears; when it is closed, another takes over.
 */

type Listener = (event: MessageEvent<string>) => void;
type Word =
  | { kind: string; data: string; id: string }
  | { want: string[]; by: string }
  | { heard: string }
  | { who: true }
  | { cut: boolean };

/** No events: the position is too old, or of another run of the program. */
type Since = { events: { kind: string; data: string; id: string }[] | null };

const REOPEN_MS = 5_000;
const listeners = new Map<string, Set<Listener>>();
const heard = new Set<string>();
let channel: BroadcastChannel | undefined;
let source: EventSource | undefined;
/** This page, on the channel. */
const self = `${performance.timeOrigin}-${Math.random()}`;
const told: string[] = [];
const MOST_TOLD = 500;
let leads = false;
let cutSince = 0;

function deliver(kind: string, data: string, id = '') {
  if (id && kind !== 'reset') {
    if (told.includes(id)) return;
    told.push(id);
    if (told.length > MOST_TOLD) told.shift();
  }
  const event = new MessageEvent('message', { data, lastEventId: id });
  for (const listener of listeners.get(kind) ?? []) listener(event);
}

function tell(word: Word) {
  channel?.postMessage(word);
}

function show(cut: boolean) {
  cutSince = cut ? cutSince || Date.now() : 0;
  document.documentElement.toggleAttribute('data-cut', cut);
  window.dispatchEvent(new CustomEvent('lz-line', { detail: { cut, since: cutSince } }));
}

/** The leader hears each kind that some page wants, once. */
function hear(kind: string) {
  source?.addEventListener(kind, (event) => {
    const { data, lastEventId } = event as MessageEvent<string>;
    deliver(kind, data, lastEventId);
    tell({ kind, data, id: lastEventId });
  });
}

function want(kinds: Iterable<string>) {
  for (const kind of kinds) {
    if (!heard.has(kind)) {
      heard.add(kind);
      hear(kind);
    }
  }
}

/**
 * EventSource comes back from a cut by itself, but gives up after an HTTP error: reopen then.
 * `after`: what happened since then is told as well.
 */
function open(after = '') {
  source = new EventSource(after ? `/live?after=${after}` : '/live');
  source.onopen = () => line(false);
  source.onerror = () => {
    line(true);
    if (source?.readyState === EventSource.CLOSED) window.setTimeout(() => open(), REOPEN_MS);
  };
  for (const kind of heard) hear(kind);
}

function line(cut: boolean) {
  show(cut);
  tell({ cut });
}

/**
 * What happened between the making of this page and the moment from which the leader listens for
 * it: asked for once the leader says that it does. An event that comes on both ways is one.
 */
async function catchUp() {
  const after = document.documentElement.dataset.live;
  if (!after) return;
  try {
    const answer = await fetch(`/live/since?after=${after}`, { headers: { 'Lz-Quiet': '1' } });
    if (!answer.ok) return;
    const { events } = (await answer.json()) as Since;
    if (!events) deliver('reset', 'null');
    else for (const { kind, data, id } of events) deliver(kind, data, id);
  } catch {
    // The line is cut; when it is back, every page loads anew.
  }
}

function lead(first: boolean): Promise<never> {
  leads = true;
  want(listeners.keys());
  // Nothing falls between the making of this page and its stream.
  open(first ? document.documentElement.dataset.live : '');
  tell({ who: true });
  return new Promise(() => {}); // until this page is closed
}

function join() {
  const began = performance.now();
  channel = new BroadcastChannel('lz-live');
  channel.onmessage = ({ data: word }: MessageEvent<Word>) => {
    if ('kind' in word) deliver(word.kind, word.data, word.id);
    else if ('cut' in word) show(word.cut);
    else if ('who' in word) tell({ want: [...listeners.keys()], by: self });
    else if ('heard' in word) {
      if (word.heard === self) void catchUp();
    } else if (leads) {
      want(word.want);
      tell({ heard: word.by });
    }
  };
  void navigator.locks.request('lz-live', () => {
    const first = performance.now() - began < 1_000;
    const took = lead(first);
    // Whoever takes over from another page may have missed something in between.
    if (!first) {
      deliver('reset', 'null');
      tell({ kind: 'reset', data: 'null', id: '' });
    }
    return took;
  });
}

/** Call `listener` with each event of a kind; the answer stops it. `reset`: load everything anew. */
export function listen(kind: string, listener: Listener): () => void {
  if (!channel) join();
  if (!listeners.has(kind)) {
    listeners.set(kind, new Set());
    if (leads) want([kind]);
    else tell({ want: [kind], by: self });
  }
  listeners.get(kind)!.add(listener);
  return () => listeners.get(kind)?.delete(listener);
}
