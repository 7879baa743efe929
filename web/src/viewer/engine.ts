/**
 * The heavy half of the viewer: cornerstone3D, drawing on the processor. A clinic's old computer
 * and its Pi have no GPU to speak of, and so a picture is the same everywhere.
 */
import { Enums, RenderingEngine, type Types, cache, eventTarget as core, init, utilities } from '@cornerstonejs/core';
import {
  AngleTool,
  EllipticalROITool,
  Enums as Hands,
  LengthTool,
  PanTool,
  ToolGroupManager,
  WindowLevelTool,
  ZoomTool,
  addTool,
  annotation as annotations,
  init as initTools,
} from '@cornerstonejs/tools';
import type { Point } from './facts';
import { type Measured, angleOf, ellipseOf, lengthOf, said } from './measure';
import { type Source, registerSources } from './source';

/** Most bytes of decoded frames that are kept: what is forgotten comes again out of the browser's cache. */
const MOST_BYTES = 768 << 20;
const DWELL_MS = 250;
const AT_ONCE = 3;

const MEASURING = { length: LengthTool, angle: AngleTool, roi: EllipticalROITool } as const;
const HANDLING = { window: WindowLevelTool, pan: PanTool, zoom: ZoomTool } as const;
export type Tool = 'scroll' | keyof typeof MEASURING | keyof typeof HANDLING;

export interface Measurement {
  id: string;
  source: Source;
  measured: Measured;
}

const LOOK = {
  lineWidth: '1.5',
  color: 'rgb(255, 221, 64)',
  textBoxColor: 'rgb(255, 221, 64)',
  textBoxFontSize: '15px',
  textBoxBackground: { color: 'rgba(0, 0, 0, 0.65)', textBoxBorderRadius: 3, textBoxMargin: 4 },
};

const byTool: Record<string, (source: Source, points: Point[]) => Measured> = {
  [LengthTool.toolName]: lengthOf,
  [AngleTool.toolName]: angleOf,
  [EllipticalROITool.toolName]: ellipseOf,
};

let engine: RenderingEngine | undefined;
const shown = new Map<string, Source>();

function start(): RenderingEngine {
  if (engine) return engine;
  init({ rendering: { useCPURendering: true } } as Types.Cornerstone3DConfig);
  initTools();
  cache.setMaxCacheSize(MOST_BYTES);
  registerSources();
  for (const tool of [...Object.values(MEASURING), ...Object.values(HANDLING)]) addTool(tool);
  const { style } = annotations.config;
  const known = style.getDefaultToolStyles() as { global: object };
  style.setDefaultToolStyles({ ...known, global: { ...known.global, ...LOOK } });
  engine = new RenderingEngine('lz');
  return engine;
}

/** Centre and width. */
export type Range = [number, number];

/** Where a pane looks from, and how. */
export class Pane {
  readonly id: string;
  sources: Source[] = [];
  index = 0;
  /** Chosen by the reader; none: each image through its own. */
  range?: Range;
  /** By the server's name, where the reader took one of them. */
  named = '';
  private viewport: Types.IStackViewport;
  private group;
  private active?: string;
  private alive = true;
  private ours = false;
  private dwell = 0;
  private wake: (() => void)[] = [];
  private readonly size: ResizeObserver;

  constructor(
    name: string,
    readonly element: HTMLDivElement,
    private readonly changed: () => void,
  ) {
    this.id = name;
    const made = start();
    made.enableElement({ viewportId: name, element, type: Enums.ViewportType.STACK });
    this.viewport = made.getViewport(name) as Types.IStackViewport;
    this.group = ToolGroupManager.createToolGroup(name)!;
    const getTextLines = (data: { handles: { points: number[][] } }, target: string) => this.lines(data, target);
    for (const tool of Object.values(HANDLING)) this.group.addTool(tool.toolName);
    for (const tool of Object.values(MEASURING)) {
      this.group.addTool(tool.toolName, { getTextLines, preventHandleOutsideImage: true });
    }
    this.group.addViewport(name, made.id);
    this.use('window');
    element.addEventListener(Enums.Events.VOI_MODIFIED, this.windowed);
    element.addEventListener(Enums.Events.CAMERA_MODIFIED, this.changed);
    for (const kind of [Hands.Events.ANNOTATION_COMPLETED, Hands.Events.ANNOTATION_MODIFIED, Hands.Events.ANNOTATION_REMOVED]) {
      core.addEventListener(kind, this.changed);
    }
    this.size = new ResizeObserver(() => this.resized());
    this.size.observe(element);
    for (let runner = 0; runner < AT_ONCE; runner++) void this.fill(runner);
  }

  close() {
    this.alive = false;
    this.poke();
    window.clearTimeout(this.dwell);
    this.size.disconnect();
    this.element.removeEventListener(Enums.Events.VOI_MODIFIED, this.windowed);
    this.element.removeEventListener(Enums.Events.CAMERA_MODIFIED, this.changed);
    for (const kind of [Hands.Events.ANNOTATION_COMPLETED, Hands.Events.ANNOTATION_MODIFIED, Hands.Events.ANNOTATION_REMOVED]) {
      core.removeEventListener(kind, this.changed);
    }
    ToolGroupManager.destroyToolGroup(this.id);
    engine?.disableElement(this.id);
  }

  get source(): Source | undefined {
    return this.sources[this.index];
  }

  // -- the stack

  async open(sources: Source[], index: number) {
    this.sources = sources;
    for (const source of sources) shown.set(`imageId:${source.id}`, source);
    this.index = index;
    const ids = sources.map(({ id }) => id);
    await sources[index]!.load(); // the engine swallows a load that fails, and stays black
    await this.viewport.setStack(ids, index);
    this.dress();
    this.arrived();
  }

  /** Show an image of the stack; one that has nothing to show yet leaves the picture as it is. */
  async show(index: number): Promise<void> {
    const wanted = Math.min(Math.max(index, 0), this.sources.length - 1);
    this.index = wanted;
    this.changed();
    const source = this.sources[wanted];
    if (!source?.showable) return;
    try {
      await source.load();
    } catch {
      return;
    }
    if (!this.alive || this.index !== wanted) return;
    this.ours = true;
    await this.viewport.setImageIdIndex(wanted);
    if (this.index === wanted) this.dress();
    this.arrived();
  }

  private arrived() {
    this.changed();
    this.poke();
    window.clearTimeout(this.dwell);
    this.dwell = window.setTimeout(() => void this.improve(this.source), DWELL_MS);
  }

  /** More has come to the server. */
  async refresh(anew: boolean) {
    for (const source of this.sources) {
      source.refused = false;
      if (anew && source.facts === undefined) await source.describe(anew).catch(() => undefined);
      anew &&= source.facts === undefined;
    }
    this.poke();
    if (this.viewport.getCurrentImageId() !== this.source?.id) await this.show(this.index);
    else void this.improve(this.source);
  }

  private async improve(source: Source | undefined) {
    if (!source || !(await source.improve())) return;
    if (this.alive && source === this.source) await this.again(source);
    this.changed();
  }

  /** The same image, which is a better one now. */
  private async again(source: Source) {
    const image = await source.load();
    if (!this.alive || source !== this.source) return;
    const { viewport } = this;
    viewport.renderImageObject(image);
    this.dress();
    for (const each of annotations.state.getAllAnnotations()) {
      if (each.metadata?.referencedImageId === source.id) each.invalidated = true;
    }
    viewport.render();
    this.changed();
  }

  // -- what is fetched ahead

  private poke() {
    for (const wake of this.wake.splice(0)) wake();
  }

  /** Previews of the whole stack from here outward; then, by one after another, frames as sent. */
  private async fill(runner: number) {
    while (this.alive) {
      const next = this.next(runner);
      if (next) await next();
      else await new Promise<void>((resolve) => this.wake.push(resolve));
    }
  }

  private next(runner: number): (() => Promise<unknown>) | undefined {
    const near = this.nearest((one) => one.quality === 'none' && one.frame.picture.preview && !busy.has(one));
    if (near) return () => guarded(near, () => near.load());
    if (runner > 0) return undefined;
    const better = this.nearest((one) => one.quality !== 'sent' && !one.refused && one.whole && !busy.has(one));
    return better && (() => guarded(better, () => this.improve(better)));
  }

  private nearest(wanted: (source: Source) => boolean): Source | undefined {
    for (let away = 0; away < this.sources.length; away++) {
      for (const at of [this.index + away, this.index - away]) {
        const found = this.sources[at];
        if (found && wanted(found)) return found;
      }
    }
    return undefined;
  }

  // -- how it is looked at

  /** The window that is in force now. */
  get window(): Range {
    const own = this.source?.shown?.window ?? [127.5, 256];
    return this.range && this.speaks ? this.range : own;
  }

  /** Whether a window in numbers means something here. */
  get speaks(): boolean {
    return this.source?.shown?.scaled ?? false;
  }

  setWindow(range: Range | undefined, named = '') {
    this.range = range;
    this.named = named;
    let again = false;
    for (const source of this.sources) again = source.look(named) || again;
    this.poke();
    if (again && this.source?.quality !== 'sent') void this.reload();
    else {
      this.dress();
      this.changed();
    }
  }

  private async reload() {
    const { source } = this;
    if (source) await source.load().then(() => this.again(source), () => undefined);
  }

  /** Window and inversion as they should be for the image that is shown. */
  private dress() {
    const { source } = this;
    if (!source?.shown) return;
    const [centre, width] = this.range && source.shown.scaled ? this.range : source.shown.window;
    this.ours = true;
    this.viewport.setProperties({
      voiRange: utilities.windowLevel.toLowHighRange(width, centre, Enums.VOILUTFunctionType.LINEAR),
      invert: source.shown.invert,
    });
    this.ours = false;
    this.viewport.render();
  }

  private readonly windowed = (event: Event) => {
    if (this.ours) return;
    const { range } = (event as CustomEvent<{ range: { lower: number; upper: number } }>).detail;
    const { windowCenter, windowWidth } = utilities.windowLevel.toWindowLevel(range.lower, range.upper);
    this.range = [windowCenter, Math.max(1, windowWidth)];
    this.named = '';
    this.changed();
  };

  get zoom(): number {
    return this.viewport.getZoom();
  }

  zoomBy(factor: number) {
    this.viewport.setZoom(Math.min(20, Math.max(0.2, this.viewport.getZoom() * factor)));
    this.viewport.render();
    this.changed();
  }

  panBy(x: number, y: number) {
    const [left, top] = this.viewport.getPan();
    this.viewport.setPan([left + x, top + y]);
    this.viewport.render();
  }

  fit() {
    this.viewport.resetCamera();
    this.setWindow(undefined);
  }

  /** CSS pixels that a pixel of the image is wide here. */
  get scale(): number {
    const [from, to] = [this.viewport.worldToCanvas([0, 0, 0]), this.viewport.worldToCanvas([1, 0, 0])];
    return Math.hypot(to[0] - from[0], to[1] - from[1]);
  }

  /** Where a pixel of the image is, in CSS pixels of the page. */
  place(x: number, y: number): Point {
    const [left, top] = this.viewport.worldToCanvas([x, y, 0]);
    const box = this.element.getBoundingClientRect();
    return [box.left + left, box.top + top];
  }

  private resized() {
    if (!this.element.clientWidth) return;
    engine?.resize(true, true);
    this.changed();
  }

  // -- tools

  use(tool: Tool) {
    const { MouseBindings } = Hands;
    if (this.active) this.group.setToolPassive(this.active);
    const name = tool === 'scroll' ? undefined : { ...MEASURING, ...HANDLING }[tool].toolName;
    this.active = name;
    this.group.setToolActive(PanTool.toolName, { bindings: [{ mouseButton: MouseBindings.Auxiliary }] });
    this.group.setToolActive(ZoomTool.toolName, { bindings: [{ mouseButton: MouseBindings.Secondary }, { numTouchPoints: 2 }] });
    if (name) this.group.setToolActive(name, { bindings: [{ mouseButton: MouseBindings.Primary }] });
  }

  measurements(): Measurement[] {
    const found: Measurement[] = [];
    for (const each of annotations.state.getAllAnnotations()) {
      const source = shown.get(`imageId:${each.metadata?.referencedImageId}`);
      const points = each.data.handles?.points;
      const reckon = byTool[each.metadata?.toolName ?? ""];
      if (!source || !points || !reckon || !this.sources.includes(source)) continue;
      found.push({ id: each.annotationUID!, source, measured: reckon(source, flat(points)) });
    }
    return found;
  }

  forget(id: string) {
    annotations.state.removeAnnotation(id);
    this.viewport.render();
    this.changed();
  }

  private lines(data: { handles: { points: number[][] } }, target: string): string[] {
    const source = shown.get(target);
    const { points } = data.handles;
    const tool = { 2: LengthTool, 3: AngleTool, 4: EllipticalROITool }[points.length];
    return source && tool ? said(byTool[tool.toolName]!(source, flat(points))) : [];
  }
}

const flat = (points: readonly (readonly number[])[]) => points.map(([x, y]) => [x, y] as Point);

const busy = new Set<Source>();

async function guarded(source: Source, work: () => Promise<unknown>) {
  busy.add(source);
  try {
    await work();
  } catch {
    source.frame.picture.preview = false; // told again when something more arrives
  } finally {
    busy.delete(source);
  }
}
