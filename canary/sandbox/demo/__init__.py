"""The demo: four releases of one service under real load, one good and three bad, each with its price in requests.

    releases.py  what is released, and how it must end
    scenario.py  releases them one after the other, as a person with kubectl would
    figures.py   what each cost its callers, from the load generator's record
    view.py      what is going on at one moment
    screen.py    draws that, live on a terminal or as lines in a log
    report.py    the result: a table, a document, and what was not as it must be

The figures never come from Prometheus or from the controller: whoever is judged does not keep the score.
"""
