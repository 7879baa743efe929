/** Base of the charts: uPlot in a Lit element, in the page's colours, as wide as its place. */
import { LitElement, css, html, unsafeCSS } from 'lit';
import uPlot from 'uplot';
import chartCss from 'uplot/dist/uPlot.min.css?inline';

export type { uPlot };

export abstract class Chart extends LitElement {
  static override properties = { label: {}, height: { type: Number } };
  /** What the chart shows, for whoever cannot see it. */
  declare label: string;
  declare height: number;

  protected chart?: uPlot;
  private readonly size = new ResizeObserver(() => this.fit());
  private readonly dark = matchMedia('(prefers-color-scheme: dark)');
  private readonly repaint = () => this.draw();

  constructor() {
    super();
    this.label = '';
    this.height = 220;
  }

  /** Times in seconds first, then one column a series; null where there is no value. */
  protected abstract columns(): uPlot.AlignedData;
  /** Series and scales; axes, size and colours come from here. */
  protected abstract options(): Pick<uPlot.Options, 'series'> & Partial<uPlot.Options>;

  override connectedCallback() {
    super.connectedCallback();
    this.dark.addEventListener('change', this.repaint);
  }

  override disconnectedCallback() {
    super.disconnectedCallback();
    this.dark.removeEventListener('change', this.repaint);
    this.size.disconnect();
    this.chart?.destroy();
  }

  override firstUpdated() {
    this.draw();
    this.size.observe(this.plot);
  }

  /** A colour of the page, by the name of its custom property. */
  protected colour(name: string): string {
    return getComputedStyle(this).getPropertyValue(`--${name}`).trim();
  }

  /** New values in the same chart. */
  protected feed() {
    this.chart?.setData(this.columns());
  }

  protected draw() {
    const axis = { stroke: this.colour('quiet'), grid: { stroke: this.colour('edge'), width: 1 } };
    this.chart?.destroy();
    this.chart = new uPlot(
      {
        width: this.plot.clientWidth,
        height: this.height,
        legend: { show: false },
        axes: [
          { ...axis, values: '{HH}:{mm}', space: 80 },
          { ...axis, size: 44 },
        ],
        ...this.options(),
      },
      this.columns(),
      this.plot,
    );
  }

  private get plot(): HTMLElement {
    return this.renderRoot.querySelector('.plot')!;
  }

  private fit() {
    this.chart?.setSize({ width: this.plot.clientWidth, height: this.height });
  }

  override render() {
    return html`<div class="plot" role="img" aria-label=${this.label}></div>`;
  }

  static override styles = [
    unsafeCSS(chartCss),
    css`
      :host {
        display: block;
      }
      .plot {
        overflow: hidden; /* a page that narrows is narrow before the chart is drawn anew */
        min-height: 220px;
      }
    `,
  ];
}
