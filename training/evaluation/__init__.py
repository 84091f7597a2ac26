"""What `training.evaluate` is made of. Each room knows those before it:

answers     what a model writes, kept as it comes        endpoints   servers that are asked
measures    values of one answer                         results     means, intervals, differences, tables
systems     a model or a server, measured                judge       which of two answers is better
report      the files                                    tracking    the same in LangSmith
"""
