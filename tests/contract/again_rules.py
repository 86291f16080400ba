"""What is asked for again: retries, late attempts, voids, takeovers, and ids that are mistaken."""

from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import rule

from contract import draws
from contract.earlier_steps import ASKED, DEDUCTS, KEYED, NAMED, about
from contract.spend_rules import SpendRules
from spec import steps
from spec.steps import HOUR_MS, MINUTE_MS, Send, Step


class AgainRules(SpendRules):
    """Draws steps about an id that was used before."""

    @about("deducts")
    @rule(of=DEDUCTS, user=draws.USER, amount=draws.PART)
    def steal(self, of: Step, user: str, amount: int | None) -> None:
        self.play(steps.refund(self.new("r"), f"{of.user}'s {of.name}", amount, user=user))

    @about("asked")
    @rule(of=ASKED, asked_in_ms=draws.ASKED_IN_MS, deadline_in_ms=draws.VOID_DEADLINE_IN_MS)
    def void(self, of: Step, asked_in_ms: int, deadline_in_ms: int) -> None:
        times = {"asked_in_ms": asked_in_ms, "deadline_in_ms": deadline_in_ms}
        if of.do in {"charge", "hold"}:
            self.play(replace(of, do="void", **times))  # type: ignore[arg-type]

    @about("deducts")
    @rule(of=DEDUCTS)
    def retry(self, of: Step) -> None:
        """Ask again for what has taken something."""
        self.play(self.again(of))

    @about("asked")
    @rule(step=ASKED)
    def ask_again(self, step: Step) -> None:
        """Ask for the same again: a retry, or a message that the network has doubled."""
        self.play(self.again(step))

    @about("named")
    @rule(of=NAMED, do=st.sampled_from(["charge", "hold"]))
    def arrive_late(self, of: Step, do: str) -> None:
        """Let a first attempt arrive after its retry or its void."""
        if of.send is not Send.GIVEN:
            do = do if of.do == "void" else of.do
            self.play(replace(of, do=do, send=Send.FRESH, asked_in_ms=0, deadline_in_ms=1_000))

    @about("deducts")
    @rule(of=DEDUCTS)
    def come_back(self, of: Step) -> None:
        """Take a minted id for an id of the caller's."""
        self.play(replace(of, send=Send.GIVEN))

    @about("asked")
    @rule(step=ASKED, amount=draws.AMOUNT)
    def change(self, step: Step, amount: int) -> None:
        """Ask for something else by the same id."""
        self.play(replace(self.again(step), amount=amount))

    @about("deducts")
    @rule(
        step=ASKED,
        do=st.sampled_from(["charge", "hold", "add", "adjust", "refund"]),
        of=DEDUCTS,
    )
    def mistake(self, step: Step, do: str, of: Step) -> None:
        """Take an id for something that it is not."""
        if self.is_recent(step):
            send = Send.RETRY if step.do in {"charge", "hold"} else Send.GIVEN
            send = step.send if step.send is Send.GIVEN else send
            self.play(replace(step, do=do, of=of.name, send=send))

    @about("keyed")
    @rule(of=KEYED, then=draws.AFTER_TAKEOVER, new_key=st.booleans())
    def take_over(self, of: Step, then: tuple[str, str], *, new_key: bool) -> None:
        """Ask for a request that was not completed in time, and let one of the two end it."""
        ms = self.asked_at_ms[of.name] + MINUTE_MS - self.now_ms()
        if ms > 0:
            self.play(steps.wait(ms))
        second = replace(of, name=self.new("t"), send=Send.FRESH)
        self.play(second)
        if new_key:
            self.play(self.again(second))
        do, who = then
        by = of.name if who == "first" else second.name
        end: dict[str, Step] = {
            "complete": steps.complete(of.name, user=of.user, by=by),
            "void": steps.void(by, user=of.user, asked_in_ms=-HOUR_MS),
            "refund": steps.refund(self.new("r"), of.name, user=of.user, by=by),
            "cancel": steps.cancel(of.name, user=of.user, by=by),
            "settle": steps.settle(of.name, 1, user=of.user, by=by),
        }
        if do != "complete" or self.now_ms() - self.asked_at_ms[of.name] < draws.KEY_LIFETIME_MS:
            self.play(end[do])
        self.play(replace(second, name=self.new("t")))
