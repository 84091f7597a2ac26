"""Numbers, web addresses and doses: what the gate finds by its form, however it is laid out, and what only looks like it."""

import pytest

from support.screening import Gate, GateRejection, check_reply

NUMBERS = frozenset({"988", "116 123", "741741", "+1-800-273-8255"})

INVENTED = [
    "Call 030/123/4567.",
    "Call 030,123,45,67.",
    "Call 030|123|4567.",
    "Call 030\n123\n4567",
    "Tel.0301234567",
    "Tel.030.1234.567",
    "Reach us: 030\u2013123\u20134567.",
    "It is 030 \u2013 123 / 45, 67.",
    "It is open: 555/867/5309.",
    "0800\u00b7555\u00b70199 is free.",
    "Dial 555 \u2022 867 \u2022 5309.",
    "Numbers:\n1. 555\n2. 867\n3. 5309",
    "- 555\n- 867\n- 5309",
    "The line is 555. Then 867. Then 5309.",
    "Dial 55 then 58 then 67.",
    "Call 555 dash 867 dash 5309.",
    "Call 0800 (555) [0199].",
    "Call 0800:555:019.",
    "Call 555=867=5309.",
    "Call 55_58_67.",
    "Call 9/1/3.",
    "Call 9-1-3, please.",
    "Call 9-11.",
    "Text 5 5 5 8 now.",
    "Call nine double nine seven.",
    "Call triple zero one.",
    "Call nine eleven.",
    "Call five five five, eight six seven, five three oh nine.",
    "Call 5\ufe0f\u20e35\ufe0f\u20e35\ufe0f\u20e38\ufe0f\u20e3.",
    "Call \u2464\u2464\u2464\u2467.",
    "Send HELP to 60606.",
    "In an emergency, 9991 is free.",
    "Their telephone is 13 11 15.",
    "You can try 0301234567or write.",
    "Call 988, or 987.",
    "Call 988/116 124.",
    "Call 1, 800, 555, 0199.",
    "Contact +49 (0)30 / 12 34 56-7.",
    "Call 0800 555 100 people know.",
    "Ruf 0113 an.",
    "Llama al 0271.",
    "Appelle le 3119.",
]
HARMLESS_DIGITS = [
    "In 2019, 2020 and 2021 many people felt this.",
    "The years 2019/2020, 2021 were hard. Call a friend.",
    "On 12/05/2024 you wrote that down.",
    "On May 5, 2024, 3 of you could call a friend.",
    "At 10:30, 11:30 and 12:30 take a break, and call a friend.",
    "Teens aged 13-17 feel this often; call a friend.",
    "A list of 5-10 names to send a letter to may help.",
    "The line is open 24/7.",
    "Call 988, 24/7.",
    "Call 988. 24/7 it is open.",
    "Try 5-4-3-2-1 grounding before you call.",
    "Try 5, 4, 3, 2, 1: five things you see.",
    "Breathe 4, 7, 8.",
    "Breathe 4/7/8 before you call someone.",
    "Try 7-4-2-1 if you like, then call a friend.",
    "Rate it from 1 to 10, say 10/10; if it is 8/10, call a friend.",
    "Count 1, 2, 3.",
    "Count to 10.\n2. Call a friend.",
    "1. Breathe in for 4.\n2. Hold for 7.\n3. Breathe out for 8.\n4. Call a friend.",
    "1) Sit.\n2) Breathe.\n3) Call someone you trust.",
    "Count 10, 20, 30, 40 before you call.",
    "Between 20% and 30% of people feel it. You can call one.",
    "Try 100-150 steps, then call a friend.",
    "It helps 1,000 people; call one.",
    "Some 1,000,000 people live with this.",
    "Lines: 988, 116 123, 741741.",
    "988\n116 123\n741741",
    "1. 988\n2. 116 123",
    "Call 988/116 123.",
    "Call 988 \u2013 or 116 123, then 741741.",
    "In the 1990s you could not text a friend.",
    "Half of 100 is 50.",
]


@pytest.mark.parametrize("text", INVENTED)
def test_a_number_is_found_however_it_is_laid_out(text):
    assert "phone_number" in check_reply(text, NUMBERS)
    with pytest.raises(GateRejection):
        list(Gate(NUMBERS).passed(text))


@pytest.mark.parametrize("text", HARMLESS_DIGITS)
def test_digits_that_are_no_number_to_call(text):
    assert check_reply(text, NUMBERS) == []


@pytest.mark.parametrize(
    "text",
    [
        *(f"Go to hopeline.{ending} for more." for ending in ("online", "site", "support", "health", "care", "help")),
        *(f"Go to hopeline.{ending} for more." for ending in ("chat", "app", "io", "foundation", "berlin", "xn--p1ai")),
        "Go to Hopeline.Online.",
        "Go to HOPE.ONLINE.",
        "Go to t.me for more.",
        "See mind.care/now.",
        "See 7cups.help today.",
        "Go to hope dot org.",
        "Go to hope (dot) health.",
        "Go to hope[.]com.",
        "Go to hope . com.",
        "Go to exa**mple**.com.",
        "Go to example**.com**.",
        "Go to hope.\u200bcom.",
        "Go to hope\u3002com.",
        "Go to findahelpline.com.a.b.c.d.e.evil.",
        "Write to anna at hope dot org.",
        "Write to anna@hope.",
        "Follow @calmhelp, it is good.",
        "Join r/calm for more.",
    ],
)
def test_an_address_is_found_whatever_it_ends_with(text):
    assert "url" in check_reply(text)


@pytest.mark.parametrize(
    "text",
    [
        "Try e.g. a walk, i.e. some air.",
        "Ask someone with a Ph.D. in it.",
        "That went well.I am glad.",
        "It is 3 p.m. now, or 3 a.m.and you are awake.",
        "Wait...what happened then?",
        "Is it yes/no, and/or both?",
        "The U.S. and the U.K. have lines.",
        "Breathe for 3.5 seconds.",
        "**findahelpline.com** lists lines.",
        "[findahelpline.com](https://findahelpline.com) lists lines.",
        "Connect the dot and the line.",
    ],
)
def test_a_dot_that_makes_no_address(text):
    assert check_reply(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "Take 0.5 g before bed.",
        "Take 500mg tonight.",
        "2 g of sugar may help.",  # may be none, and nothing is lost
        "Half a gram is enough.",
        "A quarter of a tablet is enough.",
        "\u00bd tablet helps.",
        "One and a half tablets help.",
        "A couple of pills will do.",
        "A handful of your pills will do.",
        "20 drops help.",
        "10 units of insulin help.",
        "400 IU is good.",
        "Take 2 x 200mg.",
        "The dose is usually 50.",
        "Take up to 4 a day.",
        "Take some ibuprofen.",
        "Nimm 500 Milligramm.",
        "Nimm zwei Tabletten.",
        "Ein halbes Gramm reicht.",
        "Toma dos pastillas.",
        "Medio gramo basta.",
        "Prends deux comprim\u00e9s.",
        "Prendi due compresse.",
        "Tome meio comprimido.",
    ],
)
def test_a_dose_is_found(text):
    assert "medication" in check_reply(text)


@pytest.mark.parametrize(
    "text",
    [
        "Take 5 minutes.",
        "Wait 0.5 seconds.",
        "Take a couple of minutes, or half an hour.",
        "Take two deep breaths.",
        "Drink 2 glasses of water.",
        "It weighs 5 kg.",
        "That is a hard pill to swallow.",
        "I can't tell you how much to take; a pharmacist can.",
    ],
)
def test_an_amount_that_is_no_dose(text):
    assert check_reply(text) == []
