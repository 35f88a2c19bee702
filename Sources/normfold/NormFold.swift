import ArgumentParser

@main
struct NormFold: ParsableCommand {}
