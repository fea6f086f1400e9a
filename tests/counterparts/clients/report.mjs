// Prints what a client found, one sentence a line, and remembers whether all of it was well.
export class Report {
  failed = 0;

  constructor(who) {
    this.who = who;
  }

  // `work` answers true, or what was wrong.
  async check(sentence, work) {
    const outcome = await work().catch((error) => error?.stack ?? String(error));
    if (outcome === true) return console.log(`ok ${this.who} ${sentence}`);
    this.failed += 1;
    console.log(`not ok ${this.who} ${sentence}: ${String(outcome).replace(/\s+/g, ' ').slice(0, 500)}`);
  }
}
